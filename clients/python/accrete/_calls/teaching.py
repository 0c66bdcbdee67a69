"""Calls that teach, in batches.

An example is safe to send again, since its id (given, or made by the server from label and content) is stored once.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import replace

from .._errors import LimitExceeded, NotLearned
from .._inputs import to_ids
from .._results import AddReport, ExampleResult
from .._transport.caller import Caller, Deadline
from .._transport.methods import ADD_EXAMPLES, WAIT_LEARNED
from ..v1 import teaching_pb2
from .example_batches import Batch, Examples, decode_results, example_batches, join_requests, merge_results, sendable
from .folder import find_images
from .progress import Report, shown

MAX_IDS = 10_000  # in one call
_POLL_S = 30.0  # one WaitLearned call; short enough for a lost connection to cost little
_RESPONSE_S = 5.0  # for the response to come back after that


async def add_examples(caller: Caller, examples: Examples, *, batch_size: int, timeout: float | None) -> AddReport:
    """Send all, one batch after the other."""
    results: list[ExampleResult] = []
    async for acknowledged in add_batches(caller, examples, batch_size=batch_size, timeout=timeout):
        results += acknowledged
    return AddReport.of(results)


async def add_folder(
    caller: Caller,
    path: str | os.PathLike[str],
    *,
    progress: bool | Report,
    batch_size: int,
    timeout: float | None,
) -> AddReport:
    """Send a tree of images. Raises InvalidInput when there are none."""
    found = await caller.transport.offload(lambda: find_images(path))
    examples = found.examples
    results: list[ExampleResult] = []
    with shown(progress, "examples") as report:
        report(0, len(examples))
        async for acknowledged in add_batches(caller, examples, batch_size=batch_size, timeout=timeout):
            results += acknowledged
            report(len(results), len(examples))
    return replace(AddReport.of(results), skipped=dict(found.skipped))


async def add_batches(
    caller: Caller, examples: Examples, *, batch_size: int, timeout: float | None
) -> AsyncGenerator[list[ExampleResult], None]:
    """Yield the results of each batch, once the server has acknowledged it within `timeout` seconds."""
    async for batch in example_batches(caller, examples, batch_size):
        yield merge_results(batch, await send(caller, sendable(batch), timeout))


async def send(caller: Caller, batch: Batch, timeout: float | None) -> list[ExampleResult]:
    """Send a batch and return its results.

    It is halved while the server says that it is too much at once. An example that is too much alone is refused, so
    that the others can still be stored.
    """
    if not batch:
        return []
    try:
        return decode_results(batch, await caller.call(ADD_EXAMPLES, join_requests(batch), timeout))
    except LimitExceeded as error:
        if error.retry_after is not None:
            raise
        if len(batch) == 1:
            return [batch[0].result("refused", reason=error.details, code=error.code.name)]
    middle = len(batch) // 2
    return await send(caller, batch[:middle], timeout) + await send(caller, batch[middle:], timeout)


async def wait_learned(caller: Caller, ids: Iterable[str], timeout: float | None) -> int:
    """Return the live version once all ids are in it. Raises NotLearned when they are not within `timeout` seconds."""
    waiting = to_ids(ids)
    deadline = Deadline(caller.seconds(timeout))
    version = 0
    while waiting:
        version, late = await _poll(caller, waiting[:MAX_IDS], deadline)
        waiting = late + waiting[MAX_IDS:]
        if late and deadline.left_s() <= 0:
            raise NotLearned(
                f"{len(waiting)} examples are not in the live version ({version or 'none yet'}) in time",
                waiting=waiting,
                version=version,
            )
    return version


async def _poll(caller: Caller, ids: Sequence[str], deadline: Deadline) -> tuple[int, list[str]]:
    """Return the live version and the ids not in it, when all are or after some seconds."""
    wait_s = max(0.001, min(_POLL_S, deadline.left_s()))
    request = teaching_pb2.WaitLearnedRequest(ids=ids, timeout_ms=max(1, round(wait_s * 1000)))
    response = await caller.call(WAIT_LEARNED, request, max(deadline.left_s(), 0) + _RESPONSE_S)
    return response.version, [] if response.learned else list(response.waiting)
