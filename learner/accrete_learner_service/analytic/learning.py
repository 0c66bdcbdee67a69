"""One step of a closed form, from what is pending to a committed version, in the learner's own process.

Nothing before the commit changes live state, as in `step.step_runner`.

Shapes: n examples, d feature length, C classes.
"""

from __future__ import annotations

import logging
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from accrete_kit.stopwatch import Stopwatch
from accrete_learner.analytic import AnalyticHead, fit
from accrete_learner.metrics import Tally
from accrete_learner.trainer.job import CANDIDATE_FOLDER
from accrete_learner_service.analytic.arrivals import Arrivals, read_arrivals
from accrete_learner_service.analytic.extractor import FrozenExtractor
from accrete_learner_service.analytic.ledger import Ledger, read_ledger
from accrete_learner_service.errors import NothingToLearn
from accrete_learner_service.labels import known_labels
from accrete_learner_service.runtime.logs import fields
from accrete_learner_service.runtime.status import Outcome, Progress
from accrete_learner_service.step.committing import commit, publish, reject, reserve_number
from accrete_learner_service.step.context import LearnerContext
from accrete_learner_service.step.gate import judge
from accrete_learner_service.step.inputs import Inputs
from accrete_learner_service.step.record import build_record, summarise_step
from accrete_learner_service.step.step_runner import BY_HAND_FILE, FinishedStep
from accrete_learner_service.trigger import Decision
from accrete_model.card import ModelCard
from accrete_model.writer import write_head, write_nearness
from accrete_storage.examples.example import Example
from accrete_storage.examples.features import pack_features
from accrete_storage.examples.ids import holdout_rank, position_key
from accrete_storage.store import Store
from accrete_storage.versions.record import VersionRecord

log = logging.getLogger(__name__)

#: Seconds of computing features after which a step goes on with those that it has; the others are the next one's.
FEATURES_S = 1.0


@dataclass(frozen=True, kw_only=True)
class _Candidate:
    """What a step would make of the ledger."""

    ledger: Ledger
    head: AnalyticHead
    tallies: dict[str, Tally]
    """By label, of answers of heads that never saw the image that they answer."""


class AnalyticLearner:
    """Learns by a closed form. For one thread, which has the lease while it learns."""

    def __init__(self, extractor: FrozenExtractor) -> None:
        """Learn on the features of a frozen backbone."""
        self._extractor = extractor
        self._ledger: Ledger | None = None

    def forget(self) -> None:
        """Drop what is kept in memory, since another learner may have worked meanwhile."""
        self._ledger = None

    def is_outdated(self, store: Store, parent: VersionRecord | None) -> bool:
        """Return whether the newest version is not what the store's features give now.

        Examples that it was solved from were deleted since, or the backbone is another.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        if parent is None:
            return bool(store.memory.labels())
        other = store.features.backbone() != self._extractor.digest
        return other or parent.revision != store.registry.state().revision

    def learn(self, context: LearnerContext, decision: Decision, check: Callable[[int], None]) -> FinishedStep:
        """Learn what is pending of the decision's labels, or as much as fits into a second.

        Args:
            context: what to work with.
            decision: whose examples, and why.
            check: called often with the revision of the inputs; what it raises ends the step.

        Raises:
            NothingToLearn: no example is left at all.
            StepFailed: an example does not have the backbone's input form.
            InputsChanged: examples that it learned from were deleted meanwhile.
            Fenced: another learner holds the lease.
            Interrupted: what `check` raises.
            StoreUnavailable: the store did not answer while the inputs were read. Later on it is waited for.
            OSError: the disk is full or not there.
        """
        step_id = uuid.uuid4().hex
        folder = context.work / step_id
        watch = Stopwatch()
        store = context.store
        try:
            folder.mkdir(parents=True)
            if decision.cause == "hand":
                (folder / BY_HAND_FILE).touch()
            context.reporter.status("staging", decision.reason)
            with watch.stage("staging"):
                revision = store.registry.state().revision
                still_counts = partial(check, revision)
                parent = store.registry.latest_ready()
                ledger = self._read_ledger(context, parent, revision, still_counts)
            with watch.stage("features"):
                arrivals = read_arrivals(
                    store,
                    decision.labels,
                    self._extractor,
                    seconds=FEATURES_S,
                    check=still_counts,
                )
            context.reporter.status("training")
            with watch.stage("solving"):
                candidate = _solve(ledger, arrivals)
            inputs = _inputs(store, candidate.ledger, arrivals, parent)
            verdict = judge(
                candidate.tallies, _tallies_of(parent), new_labels=inputs.new_labels, config=context.config.gate
            )
            inputs = replace(inputs, version=reserve_number(context, still_counts))
            accuracy = summarise_step(inputs, candidate.tallies)
            record = build_record(
                inputs,
                candidate.tallies,
                accuracy,
                method=context.config.method.name,
                stage_seconds=watch.seconds,
                step_seconds=watch.total,
            )
            context.reporter.status("committing")
            outcome: Outcome
            if verdict.accepted:
                outcome = "committed"
                with watch.stage("publishing"):
                    _write(folder / CANDIDATE_FOLDER, candidate, inputs.labels, self._extractor, record.method)
                    digest = publish(context, folder, record.version)
                record = replace(record, digest=digest, step_seconds=watch.total)
                with watch.stage("committing"):
                    commit(
                        context,
                        inputs,
                        record,
                        step_id=step_id,
                        exemplars=_exemplars(context, arrivals, len(inputs.labels)),
                        features=self._packed(arrivals),
                        check=still_counts,
                    )
                self._ledger = candidate.ledger
            else:
                outcome = "rejected"
                record = replace(record, state="rejected", reason=verdict.reason)
                reject(context, inputs, record, step_id=step_id, check=still_counts)
            log.info(
                f"step.{outcome}",
                extra=fields(
                    version=record.version,
                    new=len(arrivals.examples),
                    gate=verdict.reason,
                    accuracy=accuracy.to_dict(),
                    seconds={stage: round(seconds, 3) for stage, seconds in watch.seconds.items()},
                ),
            )
            return FinishedStep(outcome=outcome, seconds={**watch.seconds, "total": watch.total})
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _read_ledger(
        self, context: LearnerContext, parent: VersionRecord | None, revision: int, check: Callable[[], None]
    ) -> Ledger:
        """Return all that is learned, from memory unless examples were deleted since."""
        store, extractor = context.store, self._extractor
        if self._ledger is not None and self._ledger.revision == revision:
            return self._ledger
        if store.features.backbone() != extractor.digest:
            self._change_backbone(context, check)
        known = known_labels(parent, store.registry.forgotten())
        labels = [*known, *sorted(set(store.memory.labels()).difference(known))]
        self._ledger = read_ledger(
            store, labels, feature_length=extractor.feature_length, kind=extractor.kind, revision=revision
        )
        log.info(
            "features.read",
            extra=fields(examples=self._ledger.statistics.example_count, classes=len(self._ledger.labels)),
        )
        return self._ledger

    def _change_backbone(self, context: LearnerContext, check: Callable[[], None]) -> None:
        """Compute the features of all exemplars anew, which are all that is left of what was learned before."""
        store, extractor = context.store, self._extractor
        labels = store.memory.labels()
        before = sum(len(store.features.of(label, extractor.kind)[0]) for label in labels)
        features, kept = {}, 0
        for done, label in enumerate(labels, 1):
            check()
            if exemplars := store.memory.exemplars(label):
                ids = [one.id for one in exemplars]
                features[label] = pack_features(ids, extractor(exemplars), extractor.kind)
                kept += len(ids)
            context.reporter.progress(0, Progress(stage="embedding", done=done, total=len(labels), loss=None))
        store.features.begin(extractor.digest, features)
        if before or kept:
            lost = max(0, before - kept)
            log.warning("backbone.changed", extra=fields(backbone=extractor.digest[:12], examples=kept, lost=lost))

    def _packed(self, arrivals: Arrivals) -> dict[str, dict[str, bytes]]:
        packed: dict[str, dict[str, bytes]] = {}
        for label in arrivals.counts:
            examples, features = arrivals.of(label)
            packed[label] = pack_features([one.id for one in examples], features, self._extractor.kind)
        return packed


def _solve(ledger: Ledger, arrivals: Arrivals) -> _Candidate:
    arrived = [(label, *arrivals.of(label)) for label in sorted(arrivals.first, key=_by_arrival(arrivals.first))]
    grown = ledger.with_examples((label, [one.id for one in own], features) for label, own, features in arrived)
    if not grown.labels:
        raise NothingToLearn("no example is left")
    features, classes = grown.measured()
    head = fit(grown.statistics, features, classes)
    judged = zip(grown.labels, head.judgement.by_class(), strict=True)
    tallies = {label: Tally(hits=int(hits), total=int(total)) for label, (hits, total) in judged if total}
    return _Candidate(ledger=grown, head=head, tallies=tallies)


def _by_arrival(first: Mapping[str, str]) -> Callable[[str], tuple[tuple[int, int], str]]:
    return lambda label: (position_key(first[label]), label)


def _inputs(store: Store, ledger: Ledger, arrivals: Arrivals, parent: VersionRecord | None) -> Inputs:
    known = set(known_labels(parent, store.registry.forgotten()))
    old = [label for label in ledger.labels if label in known]
    lost = known.difference(old)
    if lost:
        log.warning("class.without_examples", extra=fields(labels=sorted(lost)))
    return Inputs(
        revision=ledger.revision,
        version=0,
        parent=parent,
        versions=store.registry.versions(),
        labels=(*old, *(label for label in ledger.labels if label not in known)),
        old_count=len(old),
        new=arrivals.examples,
        exemplars=(),
        holdout={},
        consumed=arrivals.consumed,
        counts=arrivals.counts,
    )


def _tallies_of(parent: VersionRecord | None) -> dict[str, Tally]:
    """Return what the newest version was measured by, when it was made."""
    if parent is None:
        return {}
    return {
        label: Tally(hits=round(share * parent.class_examples[label]), total=parent.class_examples[label])
        for label, share in parent.class_accuracy.items()
        if label in parent.class_examples
    }


def _exemplars(context: LearnerContext, arrivals: Arrivals, class_count: int) -> dict[str, list[Example]]:
    """Return the exemplars of the classes with arrivals: those that come first by their ids' rank.

    A frozen backbone needs none to learn. They are for another backbone, for a deep step and for people to look at, so
    a sample that does not depend on the order of arrival is what is wanted.
    """
    per_class = context.config.memory.per_class(class_count)
    chosen = {}
    for label in arrivals.counts:
        at_hand = {one.id: one for one in (*context.store.memory.exemplars(label), *arrivals.of(label)[0])}
        chosen[label] = sorted(at_hand.values(), key=lambda one: holdout_rank(one.id))[:per_class]
    return chosen


def _write(folder: Path, candidate: _Candidate, labels: Sequence[str], extractor: FrozenExtractor, method: str) -> None:
    """Write the files of a version, its classes in the order of `labels`."""
    rows = [candidate.ledger.labels.index(label) for label in labels]
    head = candidate.head
    card = ModelCard(
        backbone=extractor.name,
        frozen=extractor.digest,
        spec=extractor.spec,
        feature_length=extractor.feature_length,
        labels=tuple(labels),
        head="linear",
        rule="head",
        method=method,
    )
    write_head(
        folder,
        card,
        head={"weight": head.weight[rows], "bias": head.bias[rows], "means": head.means[rows]},
        golden_features=extractor.golden_features,
    )
    if head.judgement.total:
        write_nearness(folder, head.judgement.nearness.astype(np.float32))
