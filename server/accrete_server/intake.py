"""From a batch of examples on the wire to stored ones, each with its own answer."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import grpc

from accrete.v1 import teaching_pb2
from accrete_server import convert
from accrete_server.admission import Admission, Call
from accrete_server.config import ServerConfig
from accrete_server.errors import InvalidInput, LimitExceeded
from accrete_server.images import BadImage, ImageReader
from accrete_server.labels import check_id, check_label, check_metadata
from accrete_server.link import StoreLink
from accrete_server.metrics import TeachMetrics
from accrete_storage.errors import QuotaExceeded
from accrete_storage.example import Arrival, Example, content_digest
from accrete_storage.pending import Outcome

_Result = teaching_pb2.ExampleResult

_INVALID = int(grpc.StatusCode.INVALID_ARGUMENT.value[0])
_EXISTS = int(grpc.StatusCode.ALREADY_EXISTS.value[0])
_ANSWERS = {Outcome.STORED: _Result.STORED, Outcome.DUPLICATE: _Result.DUPLICATE}


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """A batch of examples that was read, and is not stored yet."""

    items: list[Arrival | teaching_pb2.ExampleResult]
    """Each example, or why it is refused."""


class Intake:
    """Checks, decodes and stores batches of examples."""

    def __init__(
        self, config: ServerConfig, link: StoreLink, reader: ImageReader, admission: Admission, metrics: TeachMetrics
    ) -> None:
        self._config = config
        self._link = link
        self._reader = reader
        self._admission = admission
        self._metrics = metrics

    def add(
        self, request: teaching_pb2.AddExamplesRequest, call: Call, principal: str
    ) -> list[teaching_pb2.ExampleResult]:
        """An answer for each example, once those that are fit are stored as taught by `principal`.

        Raises InvalidInput, LimitExceeded, DeadlinePassed, CallerGone; from the store StoreUnavailable, BudgetExceeded,
        QuotaExceeded.
        """
        self._check(request)
        with self._turn(call):
            return self._store(self._read(request, principal))

    def read(self, request: teaching_pb2.AddExamplesRequest, call: Call, principal: str) -> Batch:
        """The first half of `add`, in a turn of its own. Raises as it."""
        self._check(request)
        with self._turn(call):
            return self._read(request, principal)

    def store(self, batch: Batch, call: Call) -> list[teaching_pb2.ExampleResult]:
        """The second half of `add`, in another turn: what is read ahead holds none while it waits for the batch before
        to be stored, and for the caller to take that answer. Raises as `add`."""
        with self._turn(call):
            return self._store(batch)

    @contextmanager
    def _turn(self, call: Call) -> Iterator[None]:
        self._admission.enter(call)
        began = time.perf_counter()
        try:
            yield
        finally:
            self._admission.leave(time.perf_counter() - began)

    def _check(self, request: teaching_pb2.AddExamplesRequest) -> None:
        """What needs no turn: raises InvalidInput, LimitExceeded, StoreUnavailable."""
        count = len(request.examples)
        if not count:
            raise InvalidInput("examples: empty; at least one example is needed")
        if count > self._config.max_batch:
            raise LimitExceeded("max_batch", self._config.max_batch, f"{count} examples in one call")
        self._link.get()

    def _read(self, request: teaching_pb2.AddExamplesRequest, principal: str) -> Batch:
        return Batch(items=[self._example(index, wire, principal) for index, wire in enumerate(request.examples)])

    def _example(self, index: int, wire: teaching_pb2.Example, principal: str) -> Arrival | teaching_pb2.ExampleResult:
        """The example, or why it is refused."""
        example_id, label, metadata = wire.id, wire.label, dict(wire.metadata)
        try:
            check_label(label, self._config.max_label_bytes)
            if example_id:
                check_id(example_id)
            check_metadata(metadata)
            tensor = convert.read_image(wire.image, self._reader)
        except InvalidInput as problem:
            return _refused(index, example_id, _INVALID, str(problem))
        except BadImage as problem:
            return _refused(index, example_id, _INVALID, f"image: {problem}")
        digest = content_digest(label, tensor)
        example = Example(
            id=example_id or digest.hex(), label=label, tensor=tensor, metadata=metadata, principal=principal
        )
        return Arrival.of(example, digest)

    def _store(self, batch: Batch) -> list[teaching_pb2.ExampleResult]:
        arrivals = [item for item in batch.items if isinstance(item, Arrival)]
        try:
            outcomes = self._link.get().pending.append(arrivals)
        except QuotaExceeded as problem:
            self._metrics.quota(problem.limit)
            raise
        self._metrics.example("refused", len(batch.items) - len(arrivals))
        for outcome, count in Counter(outcomes).items():
            self._metrics.example(outcome.name.lower(), count)
        became = iter(outcomes)
        return [
            _result(index, item, next(became)) if isinstance(item, Arrival) else item
            for index, item in enumerate(batch.items)
        ]


def _result(index: int, arrival: Arrival, outcome: Outcome) -> teaching_pb2.ExampleResult:
    if outcome is Outcome.CONFLICT:
        return _refused(index, arrival.id, _EXISTS, "id: stored before with another label or image")
    return _Result(id=arrival.id, outcome=_ANSWERS[outcome])


def _refused(index: int, example_id: str, code: int, reason: str) -> teaching_pb2.ExampleResult:
    return _Result(id=example_id, outcome=_Result.REFUSED, code=code, reason=f"examples[{index}].{reason}")
