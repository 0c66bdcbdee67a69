"""One step of a closed form, from what is pending to a committed version, in the learner's own process.

Nothing before the commit changes live state, as in `step.step_runner`.

Shapes: n examples, d feature length, C classes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from accrete_learner.metrics import Tally
from accrete_learner_service.analytic.arrivals import BATCH, Arrivals, read_arrivals
from accrete_learner_service.analytic.extractor import FrozenExtractor
from accrete_learner_service.analytic.ledger import Ledger, Solved, read_ledger
from accrete_learner_service.errors import NothingToLearn
from accrete_learner_service.evaluation.measure import Measured
from accrete_learner_service.labels import known_labels
from accrete_learner_service.runtime.logs import fields
from accrete_learner_service.runtime.status import Progress
from accrete_learner_service.step.attempt import attempt
from accrete_learner_service.step.conclusion import Candidate, FinishedStep, conclude
from accrete_learner_service.step.context import LearnerContext
from accrete_learner_service.step.gate import Verdict, judge
from accrete_learner_service.step.inputs import Inputs
from accrete_learner_service.trigger import Decision
from accrete_model.card import ModelCard
from accrete_model.errors import LoadError
from accrete_model.frozen import BackboneStore, FrozenBackbone
from accrete_model.vectors import Floats
from accrete_model.writer import write_head
from accrete_storage.examples.example import Example
from accrete_storage.examples.features import pack_features, rounded
from accrete_storage.examples.ids import holdout_rank, position_key
from accrete_storage.store import Store
from accrete_storage.versions.judgements import Judged
from accrete_storage.versions.record import VersionRecord

log = logging.getLogger(__name__)

#: Seconds of computing features after which a step goes on with those that it has; the others are the next one's. As
#: long as the rest of the step before took, if that is longer, for with many classes it is: less than half of the time
#: would go to what comes, however much that is. At most, since a step that began anew with all examples took very long.
FEATURES_S, MOST_FEATURES_S = 1.0, 30.0

_FORCED = "gate.enabled = false takes it up all the same"


def features_s(seconds: Mapping[str, float]) -> float:
    """Return how long a step may compute features, given the seconds of the step before by stage, with `total`."""
    rest = seconds.get("total", 0.0) - seconds.get("features", 0.0)
    return min(max(FEATURES_S, rest), MOST_FEATURES_S)


class AnalyticLearner:
    """Learns by a closed form. For one thread, which has the lease while it learns."""

    def __init__(self, extractor: FrozenExtractor) -> None:
        """Learn on the features of a frozen backbone."""
        self._extractor = extractor
        self._frozen = extractor.digest
        self._ledger: Ledger | None = None
        self._took: Mapping[str, float] = {}
        """Seconds of the last step by stage, with `total`."""
        self._refused = False
        """Whether the configuration's backbone was found worse than the one in use."""

    @property
    def backbone(self) -> str:
        """Digest of the backbone in use."""
        return self._extractor.digest

    @property
    def extractor(self) -> FrozenExtractor:
        """Computes features by the backbone in use."""
        return self._extractor

    def begin(self, context: LearnerContext) -> None:
        """Drop what is kept in memory, since another learner may have worked meanwhile, and look which backbone counts.

        It is what a deep step made of the configuration's, where the stored features are by that.

        Raises:
            StoreUnavailable: the store does not answer.
            BucketUnavailable: the bucket that has the backbone cannot be used now.
            OSError: a backbone cannot be written.
        """
        self._ledger = None
        if self._refused and self.backbone == context.store.features.backbone():
            return
        tuned = None
        if context.config.deep.steps != "off":
            context.artifacts.fetch_backbone(context.store.features.backbone())
            tuned = _tuned(BackboneStore(context.artifacts.backbones), context.store.features.backbone(), self._frozen)
        if self.backbone != (self._frozen if tuned is None else tuned.digest):
            self._extractor.close()
            self._extractor = FrozenExtractor(context.config.model, BackboneStore(context.artifacts.backbones), tuned)

    def outdated(self, store: Store, parent: VersionRecord | None) -> str:
        """Return why the newest version is not what the store's features give now; "" where it is.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        if parent is None:
            return "a version was given up" if store.memory.labels() else ""
        if store.features.backbone() != self._extractor.digest:
            return "the backbone is another"
        state = store.registry.state()
        if parent.revision == state.revision:
            return ""
        return "classes were merged" if state.renamed == state.revision else "examples were deleted"

    def learn(self, context: LearnerContext, decision: Decision, check: Callable[[int], None]) -> FinishedStep:
        """Learn what is pending of the decision's labels, or as much as fits into `features_s`.

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
            BucketUnavailable: the bucket that has the backbone in use cannot be used now, and another is asked for.
            OSError: the disk is full or not there.
        """
        store = context.store
        with attempt(context.work, decision) as now:
            context.reporter.status("staging", decision.reason)
            with now.watch.stage("staging"):
                revision = store.registry.state().revision
                still_counts = partial(check, revision)
                parent, versions = store.registry.latest_ready(), store.registry.versions()
                known = known_labels(parent, store.registry.forgotten())
                same = store.features.backbone() == self._extractor.digest
                features: dict[str, dict[str, bytes]] = {}
                replaced, labels = None, decision.labels
                if same:
                    ledger = self._read_ledger(store, known, revision)
                else:
                    replaced = self._replaced(context)
                    ledger, features = self._embed_again(context, known, revision, still_counts)
                    if ledger.labels:  # by itself: what has arrived is not to blame for the backbone
                        labels = frozenset()
            with now.watch.stage("features"):
                arrivals = read_arrivals(
                    store, labels, self._extractor, seconds=features_s(self._took), check=still_counts
                )
            context.reporter.status("training")
            with now.watch.stage("solving"):
                solved = _solve(ledger, arrivals)
            ledger = solved.ledger
            inputs = _inputs(ledger, arrivals, known, parent, versions)
            measured = _measured(solved)
            before = _tallies_of(parent) if same or replaced is not None else {}
            verdict = judge(measured.tallies, before, new_labels=inputs.new_labels, config=context.config.gate)
            if replaced is not None and not verdict.accepted:
                verdict = replace(
                    verdict, reason=f"{self._extractor.name} is not taken up: {verdict.reason}; {_FORCED}"
                )
            if verdict.accepted:
                with now.watch.stage("publishing"):
                    _write(now.candidate, solved, inputs.labels, self._extractor, context.config.method.name)
            made = Candidate(
                inputs=inputs,
                measured=measured,
                verdict=verdict,
                exemplars=partial(_exemplars, context, arrivals),
                features=self._with_packed(features, arrivals),
                backbone="" if same else self._extractor.digest,
            )
            finished = conclude(context, now, made, still_counts)
            self._took = finished.seconds
            if verdict.accepted:
                self._ledger = ledger
            elif replaced is not None:
                self._go_back(context, replaced)
            return finished

    def adopt(
        self,
        context: LearnerContext,
        extractor: FrozenExtractor,
        found: Mapping[str, Mapping[str, Floats]],
        *,
        revision: int,
        unseen_below: Mapping[str, int],
        gain: str,
        check: Callable[[], None],
    ) -> FinishedStep:
        """Make a version on a backbone that a deep step found better, and go on with it.

        Args:
            context: what to work with.
            extractor: of the tuned backbone.
            found: features [d] by it, by label and id; what has none is not learned any more.
            revision: of the store, read before the deep step's examples were.
            unseen_below: by label, the rank below which the deep step did not train on examples.
            gain: what it gained, for people.
            check: called often; what it raises ends the step.

        Raises:
            InputsChanged, Fenced, Interrupted, StoreUnavailable, OSError: as `learn` does.
        """
        store = context.store
        reason = f"deep step: {gain}"
        with attempt(context.work, Decision(labels=frozenset(), reason=reason, cause="deep")) as now:
            parent, versions = store.registry.latest_ready(), store.registry.versions()
            known = known_labels(parent, store.registry.forgotten())
            with now.watch.stage("solving"):
                arrived, packed = [], {}
                for label in _labels(store, known):
                    if by_id := found.get(label):
                        features = rounded(np.stack(list(by_id.values())), extractor.kind)
                        arrived.append((label, list(by_id), features))
                        packed[label] = pack_features(list(by_id), features, extractor.kind)
                ledger = Ledger.empty(extractor.feature_length, revision, unseen_below).with_examples(arrived)
                solved = _solve(ledger, Arrivals())
            ledger = solved.ledger
            inputs = _inputs(ledger, Arrivals(), known, parent, versions)
            with now.watch.stage("publishing"):
                _write(now.candidate, solved, inputs.labels, extractor, context.config.method.name)
            made = Candidate(
                inputs=inputs,
                measured=_measured(solved),
                verdict=Verdict(accepted=True, reason=reason),
                exemplars=lambda _: {},
                features=packed,
                backbone=extractor.digest,
                unseen_below=unseen_below,
                remark=reason,
            )
            finished = conclude(context, now, made, check)
            self._extractor.close()
            self._extractor, self._ledger = extractor, ledger
            return finished

    def _read_ledger(self, store: Store, known: Sequence[str], revision: int) -> Ledger:
        """Return all that is learned, from memory unless examples were deleted since."""
        ledger = self._ledger
        if ledger is not None and ledger.revision != revision:
            renames = store.registry.renames(ledger.revision)
            whole = [one.revision for one in renames] == [*range(ledger.revision + 1, revision + 1)]
            ledger = self._ledger = ledger.after(renames) if whole else None
        if ledger is not None and ledger.revision == revision:
            return ledger
        extractor = self._extractor
        self._ledger = read_ledger(
            store,
            _labels(store, known),
            feature_length=extractor.feature_length,
            kind=extractor.kind,
            revision=revision,
        )
        log.info(
            "features.read",
            extra=fields(examples=self._ledger.statistics.example_count, classes=len(self._ledger.labels)),
        )
        return self._ledger

    def _replaced(self, context: LearnerContext) -> FrozenBackbone | None:
        """Return the backbone in use, which the configuration's is to be no worse than; None: nobody would go back.

        A tuned backbone is left because deep steps were switched off. One that is not there any more cannot be used.
        """
        digest = context.store.features.backbone()
        context.artifacts.fetch_backbone(digest)
        try:
            backbone = BackboneStore(context.artifacts.backbones).get(digest)
        except LoadError:
            return None
        return None if backbone.tuned_from else backbone

    def _go_back(self, context: LearnerContext, backbone: FrozenBackbone) -> None:
        """Go on with the backbone in use, since the configuration's is worse."""
        log.warning("backbone.refused", extra=fields(backbone=self._extractor.digest[:12], kept=backbone.digest[:12]))
        self._extractor.close()
        self._extractor = FrozenExtractor(context.config.model, BackboneStore(context.artifacts.backbones), backbone)
        self._ledger, self._refused = None, True

    def _embed_again(
        self, context: LearnerContext, known: Sequence[str], revision: int, check: Callable[[], None]
    ) -> tuple[Ledger, dict[str, dict[str, bytes]]]:
        """Return the ledger of the examples that are kept, and their features, packed by label and id.

        Nothing is written, so that a learner that is killed meanwhile finds all as it was.
        """
        store, extractor = context.store, self._extractor
        labels = _labels(store, known)
        left = sum(count.exemplars + count.holdout for count in store.memory.counts().values())
        lost = max(0, store.features.count(labels) - left)
        log.warning("backbone.changed", extra=fields(backbone=extractor.digest[:12], examples=left, lost=lost))
        if left or lost:
            reason = f"the backbone is another: {left} examples are learned anew, {lost} are lost, for none is kept"
            context.reporter.status("staging", reason)
        arrived, packed = [], {}
        for done, label in enumerate(labels, 1):
            examples = kept_examples(store, label)
            rows = []
            for start in range(0, len(examples), BATCH):
                check()
                rows.append(rounded(extractor(examples[start : start + BATCH]), extractor.kind))
            if rows:
                ids, features = [one.id for one in examples], np.concatenate(rows)
                arrived.append((label, ids, features))
                packed[label] = pack_features(ids, features, extractor.kind)
            context.reporter.progress(0, Progress(stage="embedding", done=done, total=len(labels), loss=None))
        return Ledger.empty(extractor.feature_length, revision).with_examples(arrived), packed

    def _with_packed(
        self, features: Mapping[str, Mapping[str, bytes]], arrivals: Arrivals
    ) -> dict[str, dict[str, bytes]]:
        """Return packed features by label and id, with those of arrivals."""
        packed = {label: dict(by_id) for label, by_id in features.items()}
        for label in arrivals.counts:
            examples, found = arrivals.of(label)
            own = pack_features([one.id for one in examples], found, self._extractor.kind)
            packed[label] = packed.get(label, {}) | own
        return packed


def _tuned(backbones: BackboneStore, digest: str, frozen: str) -> FrozenBackbone | None:
    """Return the backbone of that digest if a deep step made it of `frozen`, and it is whole; else None."""
    if digest in ("", frozen):
        return None
    try:
        backbone = backbones.get(digest)
    except LoadError as error:
        log.warning("backbone.not_found", extra=fields(backbone=digest[:12], reason=str(error)))
        return None
    return backbone if backbone.tuned_from == frozen else None


def _labels(store: Store, known: Sequence[str]) -> list[str]:
    """Return all labels of which something is kept, those that the newest version knows first and in its order."""
    return [*known, *sorted(set(store.memory.labels()).difference(known))]


def kept_examples(store: Store, label: str) -> list[Example]:
    """Return the examples of a label that are kept, without those that a step made of others.

    The feature of such a one would outlive the deletion of what it was made of.
    """
    at_hand = (*store.memory.exemplars(label), *store.memory.holdout(label))
    return list({one.id: one for one in at_hand if not one.made_from}.values())


def _solve(ledger: Ledger, arrivals: Arrivals) -> Solved:
    """Return the ledger with the arrivals, and its head.

    Raises:
        NothingToLearn: there is no example in it.
    """
    arrived = [(label, *arrivals.of(label)) for label in sorted(arrivals.first, key=_by_arrival(arrivals.first))]
    grown = ledger.with_examples((label, [one.id for one in own], features) for label, own, features in arrived)
    if not grown.labels:
        raise NothingToLearn("no example is left")
    return grown.solved()


def _measured(solved: Solved) -> Measured:
    """Return the answers of heads that never saw the image that they answer."""
    labels, judgement = solved.ledger.labels, solved.head.judgement
    predicted = judgement.predicted
    highest = judgement.probabilities[np.arange(judgement.total), predicted]
    columns = (judgement.positions, judgement.labels, predicted, highest)
    return Measured(
        tallies={
            label: Tally(hits=int(hits), total=int(total))
            for label, (hits, total) in zip(labels, judgement.by_class(), strict=True)
            if total
        },
        nearness=judgement.nearness.astype(np.float32),
        features={},
        judged=[
            Judged(id=solved.measured[place], label=labels[row], predicted=labels[answer], probability=probability)
            for place, row, answer, probability in zip(*(column.tolist() for column in columns), strict=True)
        ],
    )


def _by_arrival(first: Mapping[str, str]) -> Callable[[str], tuple[tuple[int, int], str]]:
    return lambda label: (position_key(first[label]), label)


def _inputs(
    ledger: Ledger,
    arrivals: Arrivals,
    known_before: Sequence[str],
    parent: VersionRecord | None,
    versions: Sequence[VersionRecord],
) -> Inputs:
    known = set(known_before)
    old = [label for label in ledger.labels if label in known]
    lost = known.difference(old)
    if lost:
        log.warning("class.without_examples", extra=fields(labels=sorted(lost)))
    return Inputs(
        revision=ledger.revision,
        version=0,
        parent=parent,
        versions=versions,
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


def _exemplars(context: LearnerContext, arrivals: Arrivals, inputs: Inputs) -> dict[str, list[Example]]:
    """Return the exemplars of the classes with arrivals: those that come first by their ids' rank.

    A frozen backbone needs none to learn. They are for another backbone, for a deep step and for people to look at, so
    a sample that does not depend on the order of arrival is what is wanted.
    """
    per_class = context.config.memory.per_class(len(inputs.labels))
    chosen = {}
    for label in arrivals.counts:
        before = context.store.memory.exemplars(label)
        at_hand = {one.id: one for one in (*before, *arrivals.of(label)[0])}
        first = sorted(at_hand.values(), key=lambda one: holdout_rank(one.id))[:per_class]
        if [one.id for one in first] != [one.id for one in before]:  # a full memory is not written anew
            chosen[label] = first
    return chosen


def _write(
    folder: Path,
    solved: Solved,
    labels: Sequence[str],
    extractor: FrozenExtractor,
    method: str,
) -> None:
    """Write the files of a version, its classes in the order of `labels`."""
    head = solved.head
    row_of = {label: row for row, label in enumerate(solved.ledger.labels)}
    rows = [row_of[label] for label in labels]
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
