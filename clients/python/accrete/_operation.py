"""Operating: state, versions and control of the learner."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from . import _wire
from ._config import Retry
from ._core import Attempts, Core, Deadline
from ._errors import NotFound, Unavailable
from ._inputs import to_ids
from ._methods import (
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
    LIST_VERSIONS,
    PAUSE_LEARNING,
    RELEASE_REVIEW,
    RESUME_LEARNING,
    RETRY_HELD,
    SERVING,
    TRIGGER_STEP,
)
from ._results import (
    Activation,
    ClassInfo,
    DeleteReport,
    Discarded,
    ForgetReport,
    HeldLabel,
    ReviewGroup,
    Status,
    VersionInfo,
)
from .v1 import operation_pb2 as op

MAX_IDS = 10_000  # in one call


async def wait_ready(core: Core, timeout: float | None) -> None:
    """Until the server's health service says SERVING. Raises Unavailable when it does not within the time."""
    deadline = Deadline(core.seconds(timeout))
    patient = dataclasses.replace(core, retry=Retry(max_s=0.5))  # waiting is the point, whatever the client's policy
    attempts = Attempts(patient, deadline)
    while await patient.call(HEALTH, b"", max(deadline.left_s(), 0.001)) != SERVING:
        await attempts.pause(Unavailable("the server is up, but its health is not SERVING"))


async def status(core: Core, timeout: float | None) -> Status:
    return _wire.status(await core.call(GET_STATUS, op.GetStatusRequest(), timeout))


async def classes(core: Core, timeout: float | None) -> list[ClassInfo]:
    response = await core.call(LIST_CLASSES, op.ListClassesRequest(), timeout)
    return [_wire.class_info(one) for one in response.classes]


async def versions(core: Core, timeout: float | None) -> list[VersionInfo]:
    response = await core.call(LIST_VERSIONS, op.ListVersionsRequest(), timeout)
    return [_wire.version_info(one) for one in response.versions]


async def activate(core: Core, version: int, timeout: float | None) -> Activation:
    return await _activate(core, op.ActivateVersionRequest(version=version), timeout)


async def unpin(core: Core, timeout: float | None) -> Activation:
    return await _activate(core, op.ActivateVersionRequest(unpin=True), timeout)


async def _activate(core: Core, request: op.ActivateVersionRequest, timeout: float | None) -> Activation:
    response = await core.call(ACTIVATE_VERSION, request, timeout)
    return Activation(version=response.version, pinned=response.pinned)


async def discard(core: Core, version: int, timeout: float | None) -> Discarded:
    response = await core.call(DISCARD_VERSION, op.DiscardVersionRequest(version=version), timeout)
    return Discarded(base=response.base, relearned=tuple(response.relearned))


async def trigger_step(core: Core, timeout: float | None) -> int:
    return (await core.call(TRIGGER_STEP, op.TriggerStepRequest(), timeout)).pending


async def pause(core: Core, timeout: float | None) -> None:
    await core.call(PAUSE_LEARNING, op.PauseLearningRequest(), timeout)


async def resume(core: Core, timeout: float | None) -> None:
    await core.call(RESUME_LEARNING, op.ResumeLearningRequest(), timeout)


async def held(core: Core, timeout: float | None) -> list[HeldLabel]:
    response = await core.call(LIST_HELD, op.ListHeldRequest(), timeout)
    return [_wire.held_label(one) for one in response.labels]


async def retry_held(core: Core, label: str, timeout: float | None) -> int:
    return (await core.call(RETRY_HELD, op.RetryHeldRequest(label=label), timeout)).pending


async def approve(core: Core, label: str, timeout: float | None) -> int:
    return (await core.call(APPROVE_LABEL, op.ApproveLabelRequest(label=label), timeout)).pending


async def drop_held(core: Core, label: str, timeout: float | None) -> int:
    return (await core.call(DROP_HELD, op.DropHeldRequest(label=label), timeout)).dropped


async def review(core: Core, timeout: float | None) -> list[ReviewGroup]:
    response = await core.call(LIST_REVIEW, op.ListReviewRequest(), timeout)
    return [_wire.review_group(one) for one in response.groups]


async def release_review(
    core: Core, label: str | None, principal: str | None, reason: str | None, timeout: float | None
) -> int:
    request = op.ReleaseReviewRequest(label=label, principal=principal, reason=reason)
    return (await core.call(RELEASE_REVIEW, request, timeout)).released


async def drop_review(
    core: Core, label: str | None, principal: str | None, reason: str | None, timeout: float | None
) -> int:
    request = op.DropReviewRequest(label=label, principal=principal, reason=reason)
    return (await core.call(DROP_REVIEW, request, timeout)).dropped


async def delete_examples(core: Core, ids: Iterable[str], timeout: float | None) -> DeleteReport:
    """In as many calls as needed. Raises NotFound when none of the ids is known in any."""
    given = to_ids(ids)
    deleted, unknown = 0, list[str]()
    missing: NotFound | None = None
    for start in range(0, len(given), MAX_IDS):
        part = given[start : start + MAX_IDS]
        try:
            response = await core.call(DELETE_EXAMPLES, op.DeleteExamplesRequest(ids=part), timeout)
        except NotFound as problem:
            missing = problem
            unknown += part
        else:
            deleted += response.deleted
            unknown += response.unknown
    if missing is not None and not deleted:
        raise missing
    return DeleteReport(deleted=deleted, unknown=unknown)


async def forget_class(core: Core, label: str, timeout: float | None) -> ForgetReport:
    response = await core.call(FORGET_CLASS, op.ForgetClassRequest(label=label), timeout)
    return ForgetReport(
        pending=response.pending_deleted, exemplars=response.exemplars_deleted, holdout=response.holdout_deleted
    )
