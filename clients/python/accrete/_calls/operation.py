"""The calls for state, versions and control of the learner. `Client` has what they mean."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable

from .._config import Retry
from .._errors import NotFound, Unavailable
from .._inputs import check_label, to_ids
from .._results import (
    Activation,
    ClassInfo,
    DeleteReport,
    Discarded,
    ForgetReport,
    HeldLabel,
    ReviewGroup,
    ServerInfo,
    Status,
    VersionInfo,
)
from .._transport.caller import Backoff, Caller, Deadline
from .._transport.methods import (
    ACTIVATE_VERSION,
    APPROVE_LABEL,
    DELETE_EXAMPLES,
    DISCARD_VERSION,
    DROP_HELD,
    DROP_REVIEW,
    FORGET_CLASS,
    GET_STATUS,
    HEALTH,
    LIST_CLASSES,
    LIST_HELD,
    LIST_REVIEW,
    LIST_SERVERS,
    LIST_VERSIONS,
    PAUSE_LEARNING,
    RELEASE_REVIEW,
    RESUME_LEARNING,
    RETRY_HELD,
    SERVING,
    TRIGGER_STEP,
)
from ..v1 import operation_pb2 as op
from . import decoding

MAX_IDS = 10_000  # in one call


async def wait_ready(caller: Caller, timeout: float | None) -> None:
    """Return once the server's health service says SERVING. Raises Unavailable when it does not in time."""
    deadline = Deadline(caller.seconds(timeout))
    # Waiting is the point, whatever the client's policy.
    patient = dataclasses.replace(caller, retry=Retry(max_s=0.5, first_s=math.inf))
    backoff = Backoff(patient, deadline)
    while await patient.call(HEALTH, b"", max(deadline.left_s(), 0.001)) != SERVING:
        await backoff.pause(Unavailable("the server is up, but its health is not SERVING"))


async def status(caller: Caller, timeout: float | None) -> Status:
    return decoding.status(await caller.call(GET_STATUS, op.GetStatusRequest(), timeout))


async def classes(caller: Caller, timeout: float | None) -> list[ClassInfo]:
    response = await caller.call(LIST_CLASSES, op.ListClassesRequest(), timeout)
    return [decoding.class_info(one) for one in response.classes]


async def servers(caller: Caller, timeout: float | None) -> list[ServerInfo]:
    response = await caller.call(LIST_SERVERS, op.ListServersRequest(), timeout)
    return [decoding.server_info(one) for one in response.servers]


async def versions(caller: Caller, timeout: float | None) -> list[VersionInfo]:
    response = await caller.call(LIST_VERSIONS, op.ListVersionsRequest(), timeout)
    return [decoding.version_info(one) for one in response.versions]


async def activate(caller: Caller, version: int, timeout: float | None) -> Activation:
    return await _activate(caller, op.ActivateVersionRequest(version=version), timeout)


async def unpin(caller: Caller, timeout: float | None) -> Activation:
    return await _activate(caller, op.ActivateVersionRequest(unpin=True), timeout)


async def _activate(caller: Caller, request: op.ActivateVersionRequest, timeout: float | None) -> Activation:
    response = await caller.call(ACTIVATE_VERSION, request, timeout)
    return Activation(version=response.version, pinned=response.pinned)


async def discard(caller: Caller, version: int, timeout: float | None) -> Discarded:
    response = await caller.call(DISCARD_VERSION, op.DiscardVersionRequest(version=version), timeout)
    return Discarded(base=response.base, relearned=tuple(response.relearned))


async def trigger_step(caller: Caller, deep: bool, timeout: float | None) -> int:
    return (await caller.call(TRIGGER_STEP, op.TriggerStepRequest(deep=deep), timeout)).pending


async def pause(caller: Caller, timeout: float | None) -> None:
    await caller.call(PAUSE_LEARNING, op.PauseLearningRequest(), timeout)


async def resume(caller: Caller, timeout: float | None) -> None:
    await caller.call(RESUME_LEARNING, op.ResumeLearningRequest(), timeout)


async def held(caller: Caller, timeout: float | None) -> list[HeldLabel]:
    response = await caller.call(LIST_HELD, op.ListHeldRequest(), timeout)
    return [decoding.held_label(one) for one in response.labels]


async def retry_held(caller: Caller, label: str, timeout: float | None) -> int:
    check_label(label)
    return (await caller.call(RETRY_HELD, op.RetryHeldRequest(label=label), timeout)).pending


async def approve(caller: Caller, label: str, timeout: float | None) -> int:
    check_label(label)
    return (await caller.call(APPROVE_LABEL, op.ApproveLabelRequest(label=label), timeout)).pending


async def drop_held(caller: Caller, label: str, timeout: float | None) -> int:
    check_label(label)
    return (await caller.call(DROP_HELD, op.DropHeldRequest(label=label), timeout)).dropped


async def review(caller: Caller, timeout: float | None) -> list[ReviewGroup]:
    response = await caller.call(LIST_REVIEW, op.ListReviewRequest(), timeout)
    return [decoding.review_group(one) for one in response.groups]


async def release_review(
    caller: Caller, label: str | None, principal: str | None, reason: str | None, timeout: float | None
) -> int:
    if label is not None:
        check_label(label)
    request = op.ReleaseReviewRequest(label=label, principal=principal, reason=reason)
    return (await caller.call(RELEASE_REVIEW, request, timeout)).released


async def drop_review(
    caller: Caller, label: str | None, principal: str | None, reason: str | None, timeout: float | None
) -> int:
    if label is not None:
        check_label(label)
    request = op.DropReviewRequest(label=label, principal=principal, reason=reason)
    return (await caller.call(DROP_REVIEW, request, timeout)).dropped


async def delete_examples(caller: Caller, ids: Iterable[str], timeout: float | None) -> DeleteReport:
    """Delete in as many calls as needed. Raises NotFound when no call knows any of its ids."""
    given = to_ids(ids)
    deleted, unknown = 0, list[str]()
    missing: NotFound | None = None
    for start in range(0, len(given), MAX_IDS):
        part = given[start : start + MAX_IDS]
        try:
            response = await caller.call(DELETE_EXAMPLES, op.DeleteExamplesRequest(ids=part), timeout)
        except NotFound as error:
            missing = error
            unknown += part
        else:
            deleted += response.deleted
            unknown += response.unknown
    if missing is not None and not deleted:
        raise missing
    return DeleteReport(deleted=deleted, unknown=unknown)


async def forget_class(caller: Caller, label: str, timeout: float | None) -> ForgetReport:
    check_label(label)
    response = await caller.call(FORGET_CLASS, op.ForgetClassRequest(label=label), timeout)
    return ForgetReport(
        pending=response.pending_deleted, exemplars=response.exemplars_deleted, holdout=response.holdout_deleted
    )
