"""One incremental step, from what is pending to a committed version, as a straight sequence.

Nothing before the commit changes live state: whatever ends the step leaves the store as it was, and the same step can
be run again from the store alone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future, wait
from functools import partial
from pathlib import Path

from accrete_learner.trainer.job import Result
from accrete_learner_service.errors import StepFailed
from accrete_learner_service.evaluation.measure import Measured, measure, measuring_beside
from accrete_learner_service.runtime.logs import fields
from accrete_learner_service.step.attempt import Attempt, attempt
from accrete_learner_service.step.conclusion import Candidate, FinishedStep, conclude
from accrete_learner_service.step.context import LearnerContext
from accrete_learner_service.step.gate import judge
from accrete_learner_service.step.inputs import Inputs, read_inputs
from accrete_learner_service.step.job_folder import write_job
from accrete_learner_service.step.parent import find_parent
from accrete_learner_service.step.record import read_exemplars
from accrete_learner_service.trainer.child import CHECK_S
from accrete_learner_service.trigger import Decision
from accrete_storage.errors import InputsChanged
from accrete_storage.versions.record import VersionRecord

log = logging.getLogger(__name__)


def learn_pending(
    context: LearnerContext, decision: Decision, check: Callable[[int], None], *, leave_out_deleted: bool = False
) -> FinishedStep:
    """Learn the pending examples of the decision's labels in one step.

    Args:
        context: what to work with.
        decision: whose examples, and why.
        check: called often with the revision of the inputs; what it raises ends the step.
        leave_out_deleted: keep nothing of examples that were deleted meanwhile, rather than end the step for them.

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
    reporter = context.reporter
    with attempt(context.work, decision) as now:
        with now.watch.stage("staging"):
            parent, parent_files = find_parent(context)
            reporter.status("staging", decision.reason)
            inputs = _stage(context, decision, now, parent, parent_files)
        still_counts = partial(check, inputs.revision)

        names = None if parent is None else parent.labels
        with measuring_beside(parent_files, inputs.parent_version, inputs.old_holdout, names) as parent_measured:
            reporter.status("training")
            with now.watch.stage("training"):
                context.trainer.run(
                    now.folder,
                    partial(reporter.progress, inputs.version),
                    still_counts,
                    partial(reporter.status, "training"),
                )
            reporter.status("gating")
            with now.watch.stage("gating"):
                result = _read_result(now.folder)
                measured = measure(now.candidate, inputs.version, inputs.holdout, still_counts)
                before = _awaited(parent_measured, still_counts)
                verdict = judge(
                    measured.tallies, before.tallies, new_labels=inputs.new_labels, config=context.config.gate
                )

        made = Candidate(
            inputs=inputs,
            measured=measured,
            verdict=verdict,
            exemplars=partial(read_exemplars, now.folder),
            inner_seconds=result.stage_seconds,
            leave_out_deleted=leave_out_deleted,
        )
        return conclude(context, now, made, still_counts)


def _stage(
    context: LearnerContext,
    decision: Decision,
    now: Attempt,
    parent: VersionRecord | None,
    parent_files: Path | None,
) -> Inputs:
    """Read the inputs, and write them into the attempt's folder too."""
    inputs = read_inputs(context.store, decision.labels, context.holdout, context.config.teaching)
    if inputs.parent != parent:
        raise InputsChanged("the version that the step starts from was given up")
    write_job(now.folder, inputs, context.config, parent_files)
    log.info("step.staged", extra=fields(version=inputs.version, new=len(inputs.new), exemplars=len(inputs.exemplars)))
    return inputs


def _read_result(folder: Path) -> Result:
    try:
        return Result.read(folder)
    except (OSError, ValueError) as error:
        raise StepFailed(f"the trainer left no result: {error}") from error


def _awaited(measured: Future[Measured], check: Callable[[], None]) -> Measured:
    """Wait for the parent's measurement.

    It is made in this step too, since the hold-out is not the one that the parent was measured on when it was made.
    """
    while True:
        check()
        if wait([measured], CHECK_S).done:
            return measured.result()
