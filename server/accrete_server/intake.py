"""From a batch of examples on the wire to stored ones, each with its own answer."""

from __future__ import annotations

import time

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
from accrete_storage.example import Example, content_id
from accrete_storage.pending import Outcome
from accrete_storage.store import Store

_Result = teaching_pb2.ExampleResult

_INVALID = int(grpc.StatusCode.INVALID_ARGUMENT.value[0])
_EXISTS = int(grpc.StatusCode.ALREADY_EXISTS.value[0])


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
        self._check_count(len(request.examples))
        store = self._link.get()
        self._admission.enter(call)
        began = time.perf_counter()
        try:
            read = [self._read(index, wire, principal) for index, wire in enumerate(request.examples)]
            good = [(index, item) for index, item in enumerate(read) if isinstance(item, Example)]
            outcomes = self._store(store, [example for _, example in good])
        finally:
            self._admission.leave(time.perf_counter() - began)
        results: list[teaching_pb2.ExampleResult] = [item for item in read if isinstance(item, _Result)]
        by_index = {
            index: self._result(index, example, outcome)
            for (index, example), outcome in zip(good, outcomes, strict=True)
        }
        refused = iter(results)
        self._metrics.example("refused", len(results))
        return [by_index[index] if index in by_index else next(refused) for index in range(len(read))]

    def _check_count(self, count: int) -> None:
        if not count:
            raise InvalidInput("examples: empty; at least one example is needed")
        if count > self._config.max_batch:
            raise LimitExceeded("max_batch", self._config.max_batch, f"{count} examples in one call")

    def _read(self, index: int, wire: teaching_pb2.Example, principal: str) -> Example | teaching_pb2.ExampleResult:
        """The example, or why it is refused."""
        try:
            check_label(wire.label, self._config.max_label_bytes)
            if wire.id:
                check_id(wire.id)
            check_metadata(wire.metadata)
            tensor = convert.read_image(wire.image, self._reader)
        except InvalidInput as problem:
            return _refused(index, wire.id, _INVALID, str(problem))
        except BadImage as problem:
            return _refused(index, wire.id, _INVALID, f"image: {problem}")
        example_id = wire.id or content_id(wire.label, tensor)
        return Example(
            id=example_id, label=wire.label, tensor=tensor, metadata=dict(wire.metadata), principal=principal
        )

    def _store(self, store: Store, examples: list[Example]) -> list[Outcome]:
        try:
            return store.pending.add(examples)
        except QuotaExceeded as problem:
            self._metrics.quota(problem.limit)
            raise

    def _result(self, index: int, example: Example, outcome: Outcome) -> teaching_pb2.ExampleResult:
        self._metrics.example(outcome.name.lower())
        if outcome is Outcome.CONFLICT:
            return _refused(index, example.id, _EXISTS, "id: stored before with another label or image")
        stored = _Result.STORED if outcome is Outcome.STORED else _Result.DUPLICATE
        return _Result(id=example.id, outcome=stored)


def _refused(index: int, example_id: str, code: int, reason: str) -> teaching_pb2.ExampleResult:
    return _Result(id=example_id, outcome=_Result.REFUSED, code=code, reason=f"examples[{index}].{reason}")
