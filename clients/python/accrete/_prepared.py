"""Examples made ready to be sent, in batches, and the answers put back in order."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from dataclasses import dataclass

import grpc

from ._config import MAX_MESSAGE_BYTES
from ._core import Core, batches, each
from ._errors import IncompatibleServer, InvalidInput
from ._inputs import Example, ExampleLike, example_message, is_quick, source_of, to_example
from ._results import ExampleResult, Outcome
from ._wire import outcome
from .v1 import teaching_pb2

BATCH_SIZE = 64
MAX_BYTES = MAX_MESSAGE_BYTES // 2

Examples = Iterable[ExampleLike] | AsyncIterable[ExampleLike]


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """An example ready to be sent, or (`message` None) refused here, for `reason`."""

    index: int
    label: str
    id: str
    source: str
    message: teaching_pb2.Example | None
    reason: str = ""

    @property
    def size(self) -> int:
        return self.message.ByteSize() if self.message else 0

    def result(
        self,
        became: Outcome,
        *,
        id: str = "",
        reason: str = "",
        code: str = "",
    ) -> ExampleResult:
        return ExampleResult(
            index=self.index,
            id=id or self.id,
            label=self.label,
            outcome=became,
            reason=reason,
            code=code,
            source=self.source,
        )


Batch = list[Prepared]


def prepared_batches(core: Core, examples: Examples, size: int) -> AsyncGenerator[Batch, None]:
    """Batches ready to be sent. Raises InvalidInput for what is no example at all; a bad image only marks its own."""
    if size < 1:
        raise InvalidInput(f"batch_size {size}: 1 or more is allowed")
    return batches(_prepared(core, examples), count=size, limit=MAX_BYTES, size=lambda one: one.size)


async def _prepared(core: Core, examples: Examples) -> AsyncGenerator[Prepared, None]:
    index = 0
    async for given in each(examples):
        example = to_example(given, index)
        if is_quick(example.image):
            yield _prepare(example, index)
        else:
            yield await core.transport.offload(lambda example=example, index=index: _prepare(example, index))  # type: ignore[misc]
        index += 1


def _prepare(example: Example, index: int) -> Prepared:
    message, reason = None, ""
    try:
        message = example_message(example)
    except InvalidInput as problem:
        reason = problem.details
    return Prepared(
        index=index,
        label=example.label,
        id=example.id,
        source=source_of(example.image),
        message=message,
        reason=reason,
    )


def to_send(batch: Batch) -> Batch:
    """Without those refused here."""
    return [one for one in batch if one.message is not None]


def merged(batch: Batch, answered: list[ExampleResult]) -> list[ExampleResult]:
    """The server's results and those refused here, in order."""
    here = [
        one.result("refused", reason=one.reason, code=grpc.StatusCode.INVALID_ARGUMENT.name)
        for one in batch
        if one.message is None
    ]
    return sorted(answered + here, key=lambda result: result.index)


def request_of(batch: Batch) -> teaching_pb2.AddExamplesRequest:
    return teaching_pb2.AddExamplesRequest(examples=[one.message for one in batch if one.message is not None])


def read_results(batch: Batch, response: teaching_pb2.AddExamplesResponse) -> list[ExampleResult]:
    """The answer to a batch. Raises IncompatibleServer."""
    if len(response.results) != len(batch):
        raise IncompatibleServer(f"{len(response.results)} results for {len(batch)} examples")
    pairs = zip(batch, response.results, strict=True)
    return [_result(sent, result, position) for position, (sent, result) in enumerate(pairs)]


def _result(sent: Prepared, result: teaching_pb2.ExampleResult, position: int) -> ExampleResult:
    """A reason begins with the example's place in the message, which means nothing to the caller; see `index`."""
    became = outcome(result)
    if became is None:
        raise IncompatibleServer(f"an outcome {result.outcome} that this client does not know")
    reason = result.reason.removeprefix(f"examples[{position}].")
    return sent.result(became, id=result.id, reason=reason, code=_code_name(result.code))


def _code_name(number: int) -> str:
    return next((code.name for code in grpc.StatusCode if number and code.value[0] == number), "")
