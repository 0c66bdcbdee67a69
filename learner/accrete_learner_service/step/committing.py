"""The end of a step, which publishes and commits the candidate or writes its rejection.

Each write may be repeated, and is until the store has answered, for its outcome matters.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from accrete_learner.trainer import job as files
from accrete_learner_service.principal_shares import share_exemplars
from accrete_learner_service.runtime.logs import fields
from accrete_learner_service.step.context import LearnerContext
from accrete_learner_service.step.deleted import without_deleted
from accrete_learner_service.step.inputs import Inputs
from accrete_model.errors import BucketUnavailable
from accrete_storage.errors import InputsChanged, StoreUnavailable
from accrete_storage.examples.example import Example
from accrete_storage.versions.commit import Commit, Reject
from accrete_storage.versions.judgements import Judged, pack
from accrete_storage.versions.record import VersionRecord

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds between two tries of a write whose answer did not come.
RETRY_S = 0.5


def reserve_number(context: LearnerContext, check: Callable[[], None]) -> int:
    """Reserve the number of the next version.

    Raises:
        Fenced: another learner holds the lease.
    """
    return _until_answered(lambda: context.store.registry.reserve(context.lease.epoch), check)


def publish(context: LearnerContext, folder: Path, version: int, check: Callable[[], None]) -> str:
    """Publish the candidate's files and return the digest of their manifest. A bucket that is away is waited for.

    A commit that does not come to pass afterwards leaves files that no record names.

    Raises:
        OSError: the disk is full or not there.
        Fenced: another learner holds the lease.
    """
    waited = ""
    while True:
        try:
            digest = context.artifacts.publish(folder / files.CANDIDATE_FOLDER, version)
        except BucketUnavailable as error:
            if waited != str(error):
                log.warning("publish.waits", extra=fields(version=version, reason=str(error)))
            waited = str(error)
            context.reporter.status("blocked", waited)
        else:
            if waited:
                context.reporter.status("committing")
            return digest
        check()
        time.sleep(RETRY_S)


def commit(
    context: LearnerContext,
    inputs: Inputs,
    record: VersionRecord,
    *,
    step_id: str,
    exemplars: Mapping[str, Sequence[Example]],
    features: Mapping[str, Mapping[str, bytes]],
    backbone: str,
    unseen_below: Mapping[str, int],
    judged: Sequence[Judged],
    leave_out_deleted: bool,
    check: Callable[[], None],
) -> None:
    """Write the new memory and the version's record, and make it the active version, all at once.

    Args:
        context: what to work with.
        inputs: of the step, with the version's number.
        record: of the version, its files published.
        step_id: of the step; committing it again changes nothing.
        exemplars: the whole new list of each class whose exemplars were chosen anew, in rank order.
        features: packed, by label and id, of examples that a closed form learned.
        backbone: that these are of, where it is not the stored features'; else "".
        unseen_below: by label, the rank below which that backbone was not trained on examples.
        judged: what the version answered to each image that it was measured by.
        leave_out_deleted: commit what is left of the lists where examples were deleted meanwhile.
        check: called before each further try; what it raises ends the step.

    Raises:
        InputsChanged: examples that the step learned from were deleted meanwhile; the files are removed again.
        Fenced: another learner holds the lease.
    """
    per_class = context.config.memory.per_class(len(inputs.labels))
    if too_small := context.config.memory.too_small(len(inputs.labels)):
        log.warning("memory.too_small", extra=fields(reason=too_small))

    def stage_and_commit() -> None:
        shared = share_exemplars(
            exemplars,
            inputs.labels,
            [*inputs.exemplars, *inputs.new],
            per_class=per_class,
            share=context.config.teaching.exemplar_share,
        )
        what = Commit(
            epoch=context.lease.epoch,
            revision=inputs.revision,
            step_id=step_id,
            record=record,
            consumed=inputs.consumed,
            per_class=per_class,
            backbone=backbone,
            unseen_below=unseen_below,
            judgements=pack(judged, record.labels),
            event={
                "version": record.version,
                "new_labels": record.new_labels,
                "accuracy": record.accuracy,
                "step_seconds": record.step_seconds,
            },
        )
        changed = inputs.shrunk.union(inputs.consumed)
        holdout = {label: inputs.holdout[label] for label in changed if label in inputs.holdout}
        context.store.stage(step_id, shared, holdout, features)
        context.store.commit(what)

    try:
        while True:
            try:
                return _until_answered(stage_and_commit, check)
            except InputsChanged:
                if not leave_out_deleted:
                    raise
                inputs, exemplars = without_deleted(context.store, inputs, exemplars)
                left = {example.id for examples in inputs.holdout.values() for example in examples}
                judged = [one for one in judged if one.id in left]
    except InputsChanged:
        with suppress(BucketUnavailable):  # what is left goes with the next step
            context.artifacts.remove(record.version)
        raise


def reject(
    context: LearnerContext, inputs: Inputs, record: VersionRecord, *, step_id: str, check: Callable[[], None]
) -> None:
    """Write the record of a rejected candidate, and put its examples into quarantine.

    Raises:
        Fenced: another learner holds the lease.
    """
    what = Reject(
        epoch=context.lease.epoch,
        step_id=step_id,
        record=record,
        quarantined=inputs.counts,
        event={"version": record.version, "reason": record.reason, "accuracy": record.accuracy},
    )
    _until_answered(lambda: context.store.reject(what), check)


def _until_answered(write: Callable[[], T], check: Callable[[], None]) -> T:
    """Repeat a write until the store has answered."""
    while True:
        try:
            return write()
        except StoreUnavailable as error:
            log.warning("commit.unanswered", extra=fields(reason=str(error)))
        check()
        time.sleep(RETRY_S)
