"""The end of every step: a measured and judged candidate becomes a version, or a record of its rejection."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from accrete_learner_service.evaluation.measure import Measured
from accrete_learner_service.runtime.logs import fields
from accrete_learner_service.runtime.status import Outcome
from accrete_learner_service.step.attempt import Attempt
from accrete_learner_service.step.committing import commit, publish, reject, reserve_number
from accrete_learner_service.step.context import LearnerContext
from accrete_learner_service.step.gate import Verdict
from accrete_learner_service.step.inputs import Inputs
from accrete_learner_service.step.record import build_record, summarise_step
from accrete_model.writer import write_nearness
from accrete_storage.examples.example import Example
from accrete_storage.versions.record import VersionRecord

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class FinishedStep:
    """A step that came to a candidate."""

    outcome: Outcome
    seconds: dict[str, float]
    """Wall seconds by stage, with `total`."""
    versions: Sequence[VersionRecord]
    """All versions after it."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """What a step made, its files in the attempt's folder."""

    inputs: Inputs
    """The version's number in them is not reserved yet."""
    measured: Measured
    verdict: Verdict
    exemplars: Callable[[Inputs], Mapping[str, Sequence[Example]]]
    """Returns the whole new list of each class whose exemplars were chosen anew, in rank order, given the inputs with
    the version's number. Called when the candidate was accepted."""
    features: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict)
    """Packed, by label and id, of examples that a closed form learned."""
    backbone: str = ""
    """Digest of the backbone that these are of, where it is not the stored features': they replace those."""
    unseen_below: Mapping[str, int] = field(default_factory=dict)
    """By label, the rank below which that backbone was not trained on examples."""
    remark: str = ""
    """For the record of an accepted candidate: what people should know of it."""
    inner_seconds: Mapping[str, float] = field(default_factory=dict)
    """Wall seconds of parts of a stage, for the record."""
    leave_out_deleted: bool = False
    """Keep nothing of examples that were deleted since the inputs were read, rather than end the step for them."""


def conclude(
    context: LearnerContext, attempt: Attempt, candidate: Candidate, check: Callable[[], None]
) -> FinishedStep:
    """Publish and commit an accepted candidate, or record a rejected one.

    Args:
        context: what to work with.
        attempt: that made the candidate.
        candidate: what it made.
        check: called before each further try of a write; what it raises ends the step.

    Raises:
        InputsChanged: examples that the step learned from were deleted meanwhile.
        Fenced: another learner holds the lease.
        Interrupted: what `check` raises.
        OSError: the disk is full or not there.
    """
    inputs = replace(candidate.inputs, version=reserve_number(context, check))
    measured, verdict, watch = candidate.measured, candidate.verdict, attempt.watch
    accuracy = summarise_step(inputs, measured.tallies)
    unjudged = "" if verdict.judged else verdict.reason
    context.reporter.status("committing", unjudged)
    digest = ""
    if verdict.accepted:
        context.handover.put(inputs.version, measured.features)
        with watch.stage("publishing"):
            if len(measured.nearness):
                write_nearness(attempt.candidate, measured.nearness)
            digest = publish(context, attempt.folder, inputs.version, check)
    record = build_record(
        inputs,
        measured.tallies,
        accuracy,
        method=context.config.method.name,
        stage_seconds={**watch.seconds, **candidate.inner_seconds},
        step_seconds=watch.total,
        digest=digest,
    )
    limits = context.config.gate
    if limits.enabled and candidate.inputs.old_count:
        record = replace(
            record,
            gate={
                "old_before": verdict.old_before,
                "old_after": verdict.old_after,
                "max_old_drop": limits.max_old_drop,
                "min_new": limits.min_new,
            },
        )
    outcome: Outcome
    if verdict.accepted:
        outcome = "committed"
        record = replace(record, reason=candidate.remark or unjudged)
        with watch.stage("committing"):
            commit(
                context,
                inputs,
                record,
                step_id=attempt.step_id,
                exemplars=candidate.exemplars(inputs),
                features=candidate.features,
                backbone=candidate.backbone,
                unseen_below=candidate.unseen_below,
                judged=measured.judged,
                leave_out_deleted=candidate.leave_out_deleted,
                check=check,
            )
    else:
        outcome = "rejected"
        record = replace(record, state="rejected", reason=verdict.reason)
        reject(context, inputs, record, step_id=attempt.step_id, check=check)
    log.info(
        f"step.{outcome}",
        extra=fields(
            version=record.version,
            new=len(inputs.new),
            gate=verdict.reason,
            accuracy=accuracy.to_dict(),
            seconds={stage: round(seconds, 3) for stage, seconds in watch.seconds.items()},
        ),
    )
    return FinishedStep(
        outcome=outcome,
        seconds={**watch.seconds, "total": watch.total},
        versions=[*inputs.versions, record],
    )
