"""Teaching: batches out, acknowledgements in.

An example is safe to send again: its id (given, or made by the server from label and content) is stored once.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Iterable, Sequence

from . import _progress
from ._core import Core, Deadline
from ._errors import LimitExceeded, NotLearned
from ._folder import folder_examples
from ._inputs import to_ids
from ._methods import ADD_EXAMPLES, WAIT_LEARNED
from ._prepared import Batch, Examples, merged, prepared_batches, read_results, request_of, to_send
from ._results import AddReport, ExampleResult
from .v1 import teaching_pb2

MAX_IDS = 10_000  # in one call
_POLL_S = 30.0  # one WaitLearned call; short enough for a lost connection to cost little
_ANSWER_S = 5.0  # for the answer to come back after that


async def add_examples(core: Core, examples: Examples, *, batch_size: int, timeout: float | None) -> AddReport:
    """Sends all, one batch after the other."""
    results: list[ExampleResult] = []
    async for acknowledged in add_batches(core, examples, batch_size=batch_size, timeout=timeout):
        results += acknowledged
    return AddReport.of(results)


async def add_folder(
    core: Core,
    path: str | os.PathLike[str],
    *,
    progress: bool | _progress.Report,
    batch_size: int,
    timeout: float | None,
) -> AddReport:
    """Sends a tree of images. Raises InvalidInput when there are none."""
    examples = await core.transport.offload(lambda: folder_examples(path))
    results: list[ExampleResult] = []
    with _progress.shown(progress, "examples") as report:
        report(0, len(examples))
        async for acknowledged in add_batches(core, examples, batch_size=batch_size, timeout=timeout):
            results += acknowledged
            report(len(results), len(examples))
    return AddReport.of(results)


async def add_batches(
    core: Core, examples: Examples, *, batch_size: int, timeout: float | None
) -> AsyncGenerator[list[ExampleResult], None]:
    """Yields the results of each batch, once the server has acknowledged it within `timeout` seconds."""
    async for batch in prepared_batches(core, examples, batch_size):
        yield merged(batch, await send(core, to_send(batch), timeout))


async def send(core: Core, batch: Batch, timeout: float | None) -> list[ExampleResult]:
    """Results of a batch; halved while the server says that it is too much at once. One that is too much alone is
    refused: the others can still be stored."""
    if not batch:
        return []
    try:
        return read_results(batch, await core.call(ADD_EXAMPLES, request_of(batch), timeout))
    except LimitExceeded as problem:
        if problem.retry_after is not None:
            raise
        if len(batch) == 1:
            return [batch[0].result("refused", reason=problem.details, code=problem.code.name)]
    middle = len(batch) // 2
    return await send(core, batch[:middle], timeout) + await send(core, batch[middle:], timeout)


async def wait_learned(core: Core, ids: Iterable[str], timeout: float | None) -> int:
    """The live version, once all ids are in it. Raises NotLearned when they are not within `timeout` seconds."""
    waiting = to_ids(ids)
    deadline = Deadline(core.seconds(timeout))
    version = 0
    while waiting:
        version, late = await _poll(core, waiting[:MAX_IDS], deadline)
        waiting = late + waiting[MAX_IDS:]
        if late and deadline.left_s() <= 0:
            raise NotLearned(
                f"{len(waiting)} examples are not in the live version ({version or 'none yet'}) in time",
                waiting=waiting,
                version=version,
            )
    return version


async def _poll(core: Core, ids: Sequence[str], deadline: Deadline) -> tuple[int, list[str]]:
    """The live version and those not in it, when all are or after some seconds."""
    wait_s = max(0.001, min(_POLL_S, deadline.left_s()))
    request = teaching_pb2.WaitLearnedRequest(ids=ids, timeout_ms=max(1, round(wait_s * 1000)))
    response = await core.call(WAIT_LEARNED, request, max(deadline.left_s(), 0) + _ANSWER_S)
    return response.version, [] if response.learned else list(response.waiting)
