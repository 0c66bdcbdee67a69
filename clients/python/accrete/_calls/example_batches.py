"""Batches of examples ready to be sent, and their results put back in order."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from dataclasses import dataclass

import grpc
from google.protobuf.message import EncodeError

from .._config import MAX_MESSAGE_BYTES
from .._errors import IncompatibleServer, InvalidInput
from .._inputs import Example, ExampleLike, fill_example, is_quick, source_of, to_example
from .._results import ExampleResult, Outcome
from .._transport.batching import batches, each
from .._transport.caller import Caller
from ..v1 import teaching_pb2
from .decoding import code_name, outcome

BATCH_SIZE = 64
MAX_BYTES = MAX_MESSAGE_BYTES // 2

Examples = Iterable[ExampleLike] | AsyncIterable[ExampleLike]


@dataclass(slots=True)
class EncodedExample:
    """An example ready to be sent, or one without a `request`, which is refused here for `reason`."""

    index: int
    label: str
    id: str
    source: str
    request: bytes | None
    """AddExamplesRequest with this example alone.

    By protobuf's encoding the bytes of several, one behind the other, are those of one request with all of them, so
    that a batch is put together without copying its messages into a larger one.
    """
    reason: str = ""

    @property
    def size(self) -> int:
        """Bytes of the request."""
        return len(self.request or b"")

    def result(
        self,
        became: Outcome,
        *,
        id: str = "",
        reason: str = "",
        code: str = "",
    ) -> ExampleResult:
        """Return the result for this example."""
        return ExampleResult(
            index=self.index,
            id=id or self.id,
            label=self.label,
            outcome=became,
            reason=reason,
            code=code,
            source=self.source,
        )


Batch = list[EncodedExample]


def example_batches(caller: Caller, examples: Examples, size: int) -> AsyncGenerator[Batch, None]:
    """Yield batches ready to be sent. Raises InvalidInput for what is no example; a bad image only marks its own."""
    if size < 1:
        raise InvalidInput(f"batch_size {size}: 1 or more is allowed")
    return batches(_encoded(caller, examples), count=size, limit=MAX_BYTES, size=lambda one: one.size)


async def _encoded(caller: Caller, examples: Examples) -> AsyncGenerator[EncodedExample, None]:
    index = 0
    async for given in each(examples):
        example = to_example(given, index)
        if is_quick(example.image):
            yield _encode(example, index)
        else:
            yield await caller.transport.offload(lambda example=example, index=index: _encode(example, index))  # type: ignore[misc]
        index += 1


def _encode(example: Example, index: int) -> EncodedExample:
    one = teaching_pb2.AddExamplesRequest()
    request, reason = None, ""
    try:
        fill_example(one.examples.add(), example)
        request = one.SerializeToString()
    except InvalidInput as error:
        reason = error.details
    except EncodeError as error:
        reason = f"its message cannot be made: {error}"
    return EncodedExample(index, example.label, example.id, source_of(example.image), request, reason)


def sendable(batch: Batch) -> Batch:
    """Return the batch without those refused here."""
    return [one for one in batch if one.request is not None]


def merge_results(batch: Batch, received: list[ExampleResult]) -> list[ExampleResult]:
    """Return the server's results and those refused here, in order."""
    here = [
        one.result("refused", reason=one.reason, code=grpc.StatusCode.INVALID_ARGUMENT.name)
        for one in batch
        if one.request is None
    ]
    return sorted(received + here, key=lambda result: result.index)


def join_requests(batch: Batch) -> bytes:
    """Return the one request for a batch."""
    return b"".join(one.request for one in batch if one.request is not None)


def decode_results(batch: Batch, response: teaching_pb2.AddExamplesResponse) -> list[ExampleResult]:
    """Return the results of a batch. Raises IncompatibleServer."""
    if len(response.results) != len(batch):
        raise IncompatibleServer(f"{len(response.results)} results for {len(batch)} examples")
    pairs = zip(batch, response.results, strict=True)
    return [_result(sent, result, position) for position, (sent, result) in enumerate(pairs)]


def _result(sent: EncodedExample, result: teaching_pb2.ExampleResult, position: int) -> ExampleResult:
    """Return a result, without the example's place in the message, which means nothing to the caller (see `index`)."""
    became = outcome(result)
    if became is None:
        raise IncompatibleServer(f"an outcome {result.outcome} that this client does not know")
    if became != "refused":
        return sent.result(became, id=result.id)
    reason = result.reason.removeprefix(f"examples[{position}].")
    return sent.result(became, id=result.id, reason=reason, code=code_name(result.code))
