"""From a batch of examples on the wire to stored ones, each with its own result."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import grpc

from accrete.v1 import teaching_pb2
from accrete_server.config import ServerConfig
from accrete_server.errors import InvalidInput, LimitExceeded
from accrete_server.images import BadImage, ImageReader, sent_form
from accrete_server.metrics.collectors import TeachMetrics
from accrete_server.predict.admission import Admission, Call
from accrete_server.store_connection import StoreConnection
from accrete_server.teach.labels import check_id, check_label, check_metadata
from accrete_storage.errors import QuotaExceeded
from accrete_storage.examples.example import Arrival, Example
from accrete_storage.examples.ids import sent_digest
from accrete_storage.examples.pending import Outcome, Stored

_Result = teaching_pb2.ExampleResult

_INVALID = int(grpc.StatusCode.INVALID_ARGUMENT.value[0])
_EXISTS = int(grpc.StatusCode.ALREADY_EXISTS.value[0])
_OUTCOMES = {
    Outcome.STORED: _Result.STORED,
    Outcome.DUPLICATE: _Result.DUPLICATE,
    Outcome.EARLIER: _Result.DUPLICATE,
}


_Items = list[Arrival | teaching_pb2.ExampleResult]
"""Each example of a batch as it will be stored, or why it is refused."""

Batch = Callable[[], _Items]
"""A batch on its way into the store. Calling it returns its examples, decoded now or before."""


class Intake:
    """Checks, decodes and stores batches of examples."""

    def __init__(
        self,
        config: ServerConfig,
        connection: StoreConnection,
        reader: ImageReader,
        admission: Admission,
        metrics: TeachMetrics,
        image_quality: int,
    ) -> None:
        self._config = config
        self._connection = connection
        self._reader = reader
        self._admission = admission
        self._metrics = metrics
        self._image_quality = image_quality

    def add(
        self, request: teaching_pb2.AddExamplesRequest, call: Call, principal: str
    ) -> list[teaching_pb2.ExampleResult]:
        """Store the examples that are fit, and return a result for each example.

        Args:
            request: the batch.
            call: the gRPC call that waits for it.
            principal: name of who teaches.

        Raises:
            InvalidInput, LimitExceeded, DeadlinePassed, CallerGone: nothing was stored.
            PendingFull, QuotaExceeded: the store has no room for the batch, and nothing was stored.
            StoreUnavailable: whether it was stored is unknown; sent again, it is stored once.
        """
        self._check(request)
        return self.store(partial(self._decode, request, principal), call)

    def prepare(self, request: teaching_pb2.AddExamplesRequest, principal: str) -> Batch:
        """Return a batch to be stored later, decoded by now if a turn was free for that.

        It waits for no turn: a stream stands in line once, with the batch that it stores.

        Raises:
            InvalidInput, LimitExceeded, StoreUnavailable: the batch cannot be stored.
        """
        self._check(request)
        if not self._admission.enter_if_free():
            return partial(self._decode, request, principal)
        with self._turn():
            items = self._decode(request, principal)
        return lambda: items

    def store(self, batch: Batch, call: Call) -> list[teaching_pb2.ExampleResult]:
        """Store the examples that are fit, and return a result for each example. Raises as `add`."""
        self._admission.enter(call)
        with self._turn():
            return self._store(batch())

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Leave the admission, which was entered, at the end of the block."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._admission.leave(time.perf_counter() - started)

    def _check(self, request: teaching_pb2.AddExamplesRequest) -> None:
        """Check what needs no turn.

        Raises:
            InvalidInput, LimitExceeded, StoreUnavailable: the batch cannot be stored.
        """
        count = len(request.examples)
        if not count:
            raise InvalidInput("examples: empty; at least one example is needed")
        if count > self._config.max_examples:
            raise LimitExceeded("max_examples", self._config.max_examples, f"{count} examples in one call")
        self._connection.store()

    def _decode(self, request: teaching_pb2.AddExamplesRequest, principal: str) -> _Items:
        return [self._decode_one(index, wire, principal) for index, wire in enumerate(request.examples)]

    def _decode_one(
        self, index: int, wire: teaching_pb2.Example, principal: str
    ) -> Arrival | teaching_pb2.ExampleResult:
        """Return the example, or why it is refused."""
        example_id, label, metadata = wire.id, wire.label, dict(wire.metadata)
        try:
            check_label(label, self._config.max_label_bytes)
            if example_id:
                check_id(example_id)
            check_metadata(metadata)
            tensor = self._reader.read(wire.image)
        except InvalidInput as error:
            return _refused(index, example_id, _INVALID, str(error))
        except BadImage as error:
            return _refused(index, example_id, _INVALID, f"image: {error}")
        form, data = sent_form(wire.image)

        sent = partial(sent_digest, form=form, data=data)
        digest = sent(label)
        example = Example(
            id=example_id or digest.hex(), label=label, content=tensor, metadata=metadata, principal=principal
        )
        return Arrival.of(example, sent, digest=digest, has_own_id=bool(example_id), image_quality=self._image_quality)

    def _store(self, items: _Items) -> list[teaching_pb2.ExampleResult]:
        arrivals = [item for item in items if isinstance(item, Arrival)]
        try:
            stored = self._connection.store().pending.store(arrivals)
        except QuotaExceeded as error:
            self._metrics.quota(error.limit)
            raise
        self._metrics.example("refused", len(items) - len(arrivals))
        for outcome, count in Counter(one.outcome for one in stored).items():
            name = Outcome.DUPLICATE.name if outcome is Outcome.EARLIER else outcome.name
            self._metrics.example(name.lower(), count)
        of_arrivals = iter(stored)
        return [
            _result(index, next(of_arrivals)) if isinstance(item, Arrival) else item for index, item in enumerate(items)
        ]


def _result(index: int, stored: Stored) -> teaching_pb2.ExampleResult:
    if stored.outcome is Outcome.CONFLICT:
        return _refused(index, stored.id, _EXISTS, "id: stored before with another label or image")
    return _Result(id=stored.id, outcome=_OUTCOMES[stored.outcome])


def _refused(index: int, example_id: str, code: int, reason: str) -> teaching_pb2.ExampleResult:
    return _Result(id=example_id, outcome=_Result.REFUSED, code=code, reason=f"examples[{index}].{reason}")
