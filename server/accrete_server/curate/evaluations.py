"""How versions judged images: one version by class and mistake, and two beside each other."""

from __future__ import annotations

from collections import Counter

from accrete.v1 import curation_pb2
from accrete_kit.intervals import wilson_interval
from accrete_server.errors import NotNow
from accrete_storage.store import Store
from accrete_storage.versions.judgements import Judged, Judgements
from accrete_storage.versions.record import VersionRecord

_WHY_NOTHING = {
    "ready": "it was made by an earlier release; every version from now on has it",
    "rejected": "it was rejected; `versions` has its accuracy",
    "retired": "its files are gone, and what it judged went with them; `versions` has its accuracy",
}


def evaluation(store: Store, version: int) -> curation_pb2.GetEvaluationResponse:
    """Return how a version judged, by class, confusion and mistake, without classes that were forgotten since.

    Raises:
        NotNow: nothing is kept of it.
        NotFound: there is no such version.
        StoreUnavailable: the store does not answer.
    """
    record, judged = _judgements(store, version)
    kept = dict.fromkeys(record.kept_labels(store.registry.forgotten()))
    classes = [_class(record, label) for label in kept]
    wrong = [one for one in judged.images if one.label in kept and not _is_right(one)]
    return curation_pb2.GetEvaluationResponse(
        version=version,
        classes=classes,
        confusions=[
            curation_pb2.Confusion(label=label, predicted=predicted, examples=count)
            for (label, predicted), count in sorted(judged.confusions.items(), key=lambda pair: (-pair[1], pair[0]))
            if label in kept and label != predicted
        ],
        mistakes=[
            curation_pb2.Mistake(id=one.id, label=one.label, predicted=one.predicted, probability=one.probability)
            for one in sorted(wrong, key=lambda one: (-one.probability, one.id))
        ],
        examples=sum(one.examples for one in classes),
    )


def comparison(store: Store, base: int, other: int) -> curation_pb2.CompareVersionsResponse:
    """Return what another version judges otherwise than a base version, on the images that both judged.

    Raises:
        NotNow, NotFound, StoreUnavailable: as `evaluation` does, for either version.
    """
    _, first = _judgements(store, base)
    _, second = _judgements(store, other)
    # Below this rank both kept whatever they judged. Beyond, they may have kept their mistakes alone.
    below = min(first.below, second.below)
    before, after = first.by_id(below), second.by_id(below)
    both = [(one, after[name]) for name, one in before.items() if name in after and after[name].label == one.label]
    examples = Counter(old.label for old, _ in both)
    base_correct = Counter(old.label for old, _ in both if _is_right(old))
    other_correct = Counter(new.label for _, new in both if _is_right(new))
    classes = [
        curation_pb2.ClassChange(
            label=label, examples=count, base_correct=base_correct[label], other_correct=other_correct[label]
        )
        for label, count in examples.items()
    ]
    return curation_pb2.CompareVersionsResponse(
        classes=sorted(classes, key=lambda one: ((one.other_correct - one.base_correct) / one.examples, one.label)),
        gained=_differences([pair for pair in both if _is_right(pair[1]) and not _is_right(pair[0])]),
        lost=_differences([pair for pair in both if _is_right(pair[0]) and not _is_right(pair[1])]),
        examples=len(both),
    )


def _judgements(store: Store, version: int) -> tuple[VersionRecord, Judgements]:
    record = store.registry.version(version)
    judged = store.judgements.of(record)
    if judged is None:
        why = _WHY_NOTHING.get(record.state, record.state)
        raise NotNow(f"version {version}: nothing is kept of how it judged images: {why}")
    return record, judged


def _class(record: VersionRecord, label: str) -> curation_pb2.ClassEvaluation:
    examples = record.class_examples.get(label, 0)
    correct = round(record.class_accuracy.get(label, 0.0) * examples)
    low, high = wilson_interval(correct, examples)
    return curation_pb2.ClassEvaluation(label=label, examples=examples, correct=correct, low=low, high=high)


def _is_right(one: Judged) -> bool:
    return one.label == one.predicted


def _differences(pairs: list[tuple[Judged, Judged]]) -> list[curation_pb2.Difference]:
    """Return pairs of answers to the same image, those first of whose second answer the version was most certain."""
    return [
        curation_pb2.Difference(id=new.id, label=new.label, base_predicted=old.predicted, other_predicted=new.predicted)
        for old, new in sorted(pairs, key=lambda pair: (-pair[1].probability, pair[1].id))
    ]
