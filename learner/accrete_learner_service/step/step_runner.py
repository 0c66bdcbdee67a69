"""One incremental step, from what is pending to a committed version, as a straight sequence.

Nothing before the commit changes live state: whatever ends the step leaves the store as it was, and the same step can
be run again from the store alone.
"""

from __future__ import annotations

import logging
import shutil
import uuid
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from accrete_kit.stopwatch import Stopwatch
from accrete_learner.trainer import job as files
from accrete_learner.trainer.job import Result
from accrete_learner_service.errors import StepFailed
from accrete_learner_service.evaluation.measure import Measured, measure, measuring_beside
from accrete_learner_service.runtime.logs import fields
from accrete_learner_service.runtime.status import Outcome
from accrete_learner_service.step.committing import commit, publish, reject, reserve_number
from accrete_learner_service.step.context import LearnerContext
from accrete_learner_service.step.gate import judge
from accrete_learner_service.step.inputs import Inputs, read_inputs
from accrete_learner_service.step.job_folder import write_job
from accrete_learner_service.step.parent import find_parent
from accrete_learner_service.step.record import build_record, read_exemplars, summarise_step
from accrete_learner_service.trainer.child import CHECK_S
from accrete_learner_service.trigger import Decision
from accrete_model.writer import write_nearness
from accrete_storage.errors import InputsChanged
from accrete_storage.versions.record import VersionRecord

log = logging.getLogger(__name__)

#: Marks a step that was asked for by hand, so that the request outlives a learner that is killed in it.
BY_HAND_FILE = "by_hand"


@dataclass(frozen=True, kw_only=True)
class FinishedStep:
    """A step that came to a candidate."""

    outcome: Outcome
    seconds: dict[str, float]
    """Wall seconds by stage, with `total`."""


def learn_pending(context: LearnerContext, decision: Decision, check: Callable[[int], None]) -> FinishedStep:
    """Learn the pending examples of the decision's labels in one step.

    Args:
        context: what to work with.
        decision: whose examples, and why.
        check: called often with the revision of the inputs; what it raises ends the step.

    Raises:
        NothingToLearn: nothing to train on is left.
        Blocked: the version that it starts from cannot be used; nothing was told of a step by then.
        StepFailed: there is no candidate that can be loaded.
        InputsChanged: examples that it learned from were deleted meanwhile, or the version that it starts from was
            given up.
        Fenced: another learner holds the lease.
        Interrupted: the lease is lost, or what `check` raises.
        StoreUnavailable: the store did not answer while the inputs were read. Later on it is waited for.
        OSError: the disk is full or not there.
    """
    step_id = uuid.uuid4().hex
    folder = context.work / step_id
    reporter = context.reporter
    watch = Stopwatch()
    try:
        with watch.stage("staging"):
            parent, parent_files = find_parent(context)
            reporter.status("staging", decision.reason)
            inputs = _stage(context, decision, folder, parent, parent_files)
        still_counts = partial(check, inputs.revision)

        with measuring_beside(parent_files, inputs.parent_version, inputs.old_holdout) as parent_measured:
            reporter.status("training")
            with watch.stage("training"):
                context.trainer.run(folder, partial(reporter.progress, inputs.version), still_counts)
            reporter.status("gating")
            with watch.stage("gating"):
                result = _read_result(folder)
                measured = _measure_candidate(folder, inputs, still_counts)
                before = _awaited(parent_measured, still_counts)
                verdict = judge(
                    measured.tallies, before.tallies, new_labels=inputs.new_labels, config=context.config.gate
                )

        inputs = replace(inputs, version=reserve_number(context, still_counts))
        accuracy = summarise_step(inputs, measured.tallies)
        record = build_record(
            inputs,
            measured.tallies,
            accuracy,
            method=context.config.method.name,
            stage_seconds={**watch.seconds, **result.stage_seconds},
            step_seconds=watch.total,
        )
        reporter.status("committing")
        outcome: Outcome
        if verdict.accepted:
            outcome = "committed"
            context.handover.put(record.version, measured.features)
            with watch.stage("publishing"):
                digest = publish(context, folder, record.version)
            record = replace(record, digest=digest, step_seconds=watch.total)
            with watch.stage("committing"):
                exemplars = read_exemplars(folder, inputs)
                commit(context, inputs, record, step_id=step_id, exemplars=exemplars, check=still_counts)
        else:
            outcome = "rejected"
            record = replace(record, state="rejected", reason=verdict.reason)
            reject(context, inputs, record, step_id=step_id, check=still_counts)
        log.info(
            f"step.{outcome}", extra=fields(version=record.version, gate=verdict.reason, accuracy=accuracy.to_dict())
        )
        return FinishedStep(outcome=outcome, seconds={**watch.seconds, "total": watch.total})
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _stage(
    context: LearnerContext,
    decision: Decision,
    folder: Path,
    parent: VersionRecord | None,
    parent_files: Path | None,
) -> Inputs:
    """Read the inputs, and write them into the step's folder too."""
    inputs = read_inputs(context.store, decision.labels, context.holdout, context.config.teaching)
    folder.mkdir(parents=True)
    if decision.cause == "hand":
        (folder / BY_HAND_FILE).touch()
    if inputs.parent != parent:
        raise InputsChanged("the version that the step starts from was given up")
    write_job(folder, inputs, context.config, parent_files)
    log.info("step.staged", extra=fields(version=inputs.version, new=len(inputs.new), exemplars=len(inputs.exemplars)))
    return inputs


def _read_result(folder: Path) -> Result:
    try:
        return Result.read(folder)
    except (OSError, ValueError) as error:
        raise StepFailed(f"the trainer left no result: {error}") from error


def _measure_candidate(folder: Path, inputs: Inputs, check: Callable[[], None]) -> Measured:
    """Load the candidate as a server will, measure it, and leave in it how near the hold-out is to its classes."""
    candidate = folder / files.CANDIDATE_FOLDER
    measured = measure(candidate, inputs.version, inputs.holdout, check)
    if len(measured.nearness):
        write_nearness(candidate, measured.nearness)
    return measured


def _awaited(measured: Future[Measured], check: Callable[[], None]) -> Measured:
    """Wait for the parent's measurement.

    It is made in this step too, since the hold-out is not the one that the parent was measured on when it was made.
    """
    while True:
        check()
        if wait([measured], CHECK_S).done:
            return measured.result()
