"""One incremental step, from what is pending to a committed version, as a straight sequence.

Nothing before the commit changes live state: whatever ends the step leaves the store as it was, and the same step can
be run again from the store alone.
"""

from __future__ import annotations

import logging
import shutil
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from safetensors.numpy import save

from accrete_kit.stopwatch import Stopwatch
from accrete_learner.trainer import job as files
from accrete_learner.trainer.job import Result
from accrete_learner_service.config import LearnerServiceConfig
from accrete_learner_service.errors import Blocked, StepFailed
from accrete_learner_service.lease import LeaseKeeper
from accrete_learner_service.runtime.logs import fields
from accrete_learner_service.runtime.phases import Outcome
from accrete_learner_service.step.gate import Verdict, judge
from accrete_learner_service.step.measure import Handover, Measured, measure, measuring_beside, verified
from accrete_learner_service.step.record import build_record, read_exemplars, summarise_step
from accrete_learner_service.step.report import Report
from accrete_learner_service.step.shares import share_exemplars
from accrete_learner_service.step.staging import Inputs, exemplars_per_class, kept_labels, read_inputs, write_job
from accrete_learner_service.trainer.child import CHECK_S, Trainer
from accrete_learner_service.trigger import Decision
from accrete_model.artifact_store import ArtifactStore
from accrete_model.errors import LoadError
from accrete_model.reader import read_artifact
from accrete_storage.config import HoldoutConfig
from accrete_storage.errors import InputsChanged, StoreUnavailable
from accrete_storage.store import Store
from accrete_storage.versions.commit import Commit, Reject
from accrete_storage.versions.record import VersionRecord

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Marks a step that was asked for by hand, so that the request outlives a learner that is killed in it.
BY_HAND_FILE = "by_hand"
#: Seconds between two tries of a commit whose answer did not come.
COMMIT_RETRY_S = 0.5


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What a step works with."""

    store: Store
    artifacts: ArtifactStore
    lease: LeaseKeeper
    trainer: Trainer
    handover: Handover
    """To what looks at the hold-out after the swap."""
    report: Report
    config: LearnerServiceConfig
    holdout: HoldoutConfig
    work: Path
    """Folder of the steps' folders."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A step that came to a candidate."""

    outcome: Outcome
    seconds: dict[str, float]
    """Wall seconds by stage, with `total`."""


def run_step(bench: Bench, decision: Decision, check: Callable[[int], None]) -> Ended:
    """Runs one step with the pending examples of the decision's labels.

    Args:
        bench: what to work with.
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
    folder = bench.work / step_id
    watch = Stopwatch()
    try:
        with watch.stage("staging"):
            base, base_files = _base(bench)
            bench.report.phase("staging", decision.reason)
            inputs = _stage(bench, decision, folder, base, base_files)
        log.info(
            "step.staged", extra=fields(version=inputs.version, new=len(inputs.new), exemplars=len(inputs.exemplars))
        )
        result, measured, verdict = _make(bench, inputs, base_files, folder, watch, check)
        accuracy = summarise_step(inputs, measured.tallies)
        number = _insist(lambda: bench.store.registry.reserve(bench.lease.epoch), lambda: check(inputs.revision))
        inputs = replace(inputs, version=number)
        record = build_record(
            inputs,
            measured.tallies,
            accuracy,
            method=bench.config.method.name,
            stage_seconds={**watch.seconds, **result.stage_seconds},
            step_seconds=watch.total,
        )
        bench.report.phase("committing")
        if verdict.accepted:
            bench.handover.put(number, measured.features)
            record = _accept(bench, inputs, record, folder, step_id, watch, check)
        else:
            record = replace(record, state="rejected", reason=verdict.reason)
            _reject(bench, inputs, record, step_id, check)
        outcome: Outcome = "committed" if verdict.accepted else "rejected"
        log.info(
            f"step.{outcome}", extra=fields(version=record.version, gate=verdict.reason, accuracy=accuracy.to_dict())
        )
        return Ended(outcome=outcome, seconds={**watch.seconds, "total": watch.total})
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _make(
    bench: Bench,
    inputs: Inputs,
    parent_files: Path | None,
    folder: Path,
    watch: Stopwatch,
    check: Callable[[int], None],
) -> tuple[Result, Measured, Verdict]:
    """Trains the candidate, measures it and judges it; the parent is measured meanwhile."""
    with measuring_beside(parent_files, inputs.parent_version, inputs.old_holdout) as parent:
        bench.report.phase("training")
        with watch.stage("training"):
            bench.trainer.run(
                folder,
                on_progress=lambda progress: bench.report.progress(inputs.version, progress),
                check=lambda: check(inputs.revision),
            )
        bench.report.phase("gating")
        with watch.stage("gating"):
            result = _read_result(folder)
            measured, verdict = _gate(bench, inputs, folder, parent, lambda: check(inputs.revision))
    return result, measured, verdict


def _base(bench: Bench) -> tuple[VersionRecord | None, Path | None]:
    """The parent of the step, and its folder, its files as they were published, if any class of it stays."""
    registry = bench.store.registry
    parent = registry.latest_ready()
    if parent is None or not kept_labels(parent, registry.forgotten()):
        return parent, None
    published = verified(bench.artifacts, parent)
    if not bench.config.method.begins_anew:
        _check_backbone(published, parent.version, bench.config.model.backbone)
    return parent, published


def _check_backbone(published: Path, version: int, asked: str) -> None:
    """Raises Blocked when a network of one kind is to go on from another's weights."""
    try:
        backbone = read_artifact(published).card.backbone
    except LoadError as error:
        raise Blocked(f"version {version} cannot be read: {error}") from error
    if backbone != asked:
        raise Blocked(
            f"version {version} is a {backbone}, and the configuration asks for a {asked}: set model.backbone back, "
            "or begin with another data_dir"
        )


def _stage(
    bench: Bench, decision: Decision, folder: Path, base: VersionRecord | None, base_files: Path | None
) -> Inputs:
    """The inputs, also in the step's folder."""
    inputs = read_inputs(bench.store, decision.labels, bench.holdout, bench.config.teaching)
    folder.mkdir(parents=True)
    if decision.cause == "hand":
        (folder / BY_HAND_FILE).touch()
    if inputs.parent != base:
        raise InputsChanged("the version that the step starts from was given up")
    write_job(folder, inputs, bench.config, base_files)
    return inputs


def _gate(
    bench: Bench, inputs: Inputs, folder: Path, parent: Future[Measured], check: Callable[[], None]
) -> tuple[Measured, Verdict]:
    """Loads the candidate as a server will, and compares its hits with the parent's on the same hold-out.

    The parent's are measured in this step too, since the hold-out is not the one that the parent was measured on when
    it was made. Also leaves in the candidate how near the hold-out is to its classes.
    """
    candidate = folder / files.CANDIDATE_FOLDER
    measured = measure(candidate, inputs.version, inputs.holdout, check)
    if len(measured.nearness):
        nearness = {"nearness": np.sort(measured.nearness)}
        (candidate / files.HOLDOUT_FILE).write_bytes(save(nearness))
    before = _awaited(parent, check).tallies
    verdict = judge(measured.tallies, before, new_labels=inputs.new_labels, config=bench.config.gate)
    return measured, verdict


def _awaited(future: Future[T], check: Callable[[], None]) -> T:
    while True:
        check()
        if wait([future], CHECK_S).done:
            return future.result()


def _read_result(folder: Path) -> Result:
    try:
        return Result.read(folder)
    except (OSError, ValueError) as error:
        raise StepFailed(f"the trainer left no result: {error}") from error


def _accept(
    bench: Bench,
    inputs: Inputs,
    record: VersionRecord,
    folder: Path,
    step_id: str,
    watch: Stopwatch,
    check: Callable[[int], None],
) -> VersionRecord:
    """Publishes the files, then commits; a commit that does not come to pass leaves files that no record names."""
    exemplars = share_exemplars(
        read_exemplars(folder, inputs),
        inputs.labels,
        [*inputs.exemplars, *inputs.new],
        per_class=exemplars_per_class(inputs, bench.config),
        share=bench.config.teaching.exemplar_share,
    )
    with watch.stage("publishing"):
        digest = bench.artifacts.publish(folder / files.CANDIDATE_FOLDER, inputs.version)
    record = replace(record, digest=digest, step_seconds=watch.total)
    commit = Commit(
        epoch=bench.lease.epoch,
        revision=inputs.revision,
        step_id=step_id,
        record=record,
        consumed=inputs.consumed,
        per_class=exemplars_per_class(inputs, bench.config),
        event={
            "version": record.version,
            "new_labels": record.new_labels,
            "accuracy": record.accuracy,
            "step_seconds": record.step_seconds,
        },
    )

    def stage_and_commit() -> None:
        bench.store.stage(step_id, exemplars, {label: inputs.holdout[label] for label in inputs.consumed})
        bench.store.commit(commit)

    with watch.stage("committing"):
        try:
            _insist(stage_and_commit, lambda: check(inputs.revision))
        except InputsChanged:
            bench.artifacts.remove(inputs.version)
            raise
    return record


def _reject(bench: Bench, inputs: Inputs, record: VersionRecord, step_id: str, check: Callable[[int], None]) -> None:
    reject = Reject(
        epoch=bench.lease.epoch,
        step_id=step_id,
        record=record,
        holds=inputs.counts,
        event={"version": record.version, "reason": record.reason, "accuracy": record.accuracy},
    )
    _insist(lambda: bench.store.reject(reject), lambda: check(inputs.revision))


def _insist(write: Callable[[], T], check: Callable[[], None]) -> T:
    """Repeats a write that may be repeated until the store has answered, for its outcome matters."""
    while True:
        try:
            return write()
        except StoreUnavailable as error:
            log.warning("commit.unanswered", extra=fields(reason=str(error)))
        check()
        time.sleep(COMMIT_RETRY_S)
