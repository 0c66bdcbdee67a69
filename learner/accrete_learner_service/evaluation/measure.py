"""The answers of a version to the hold-out, computed by the engine and by the rule that serve.

Shapes: N examples, K labels answered.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from accrete_learner.metrics import Tally
from accrete_learner_service.errors import Blocked, Interrupted, StepFailed, VersionDamaged
from accrete_model.artifact_store import ArtifactStore
from accrete_model.config import EngineConfig
from accrete_model.errors import BucketUnavailable, CorruptArtifact, LoadError
from accrete_model.loaded_version import LoadedVersion, load
from accrete_model.scoring import Classifier
from accrete_model.vectors import Floats
from accrete_storage.examples.example import Example
from accrete_storage.versions.judgements import Judged
from accrete_storage.versions.record import VersionRecord

#: The learner's own computing: one thread of the CPU, wherever serving and training run.
ENGINE = EngineConfig(engine="onnxruntime", device="cpu", threads=1)
#: Examples computed at once; bounds memory, and a CPU gains nothing from more.
BATCH = 32
#: Examples of a hold-out whose features are kept.
MAX_KEPT = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """How a version did on a hold-out of H examples."""

    tallies: dict[str, Tally]
    """By label, of those that have examples."""
    nearness: Floats
    """Of each example to the class that is nearest, as a cosine [H]."""
    features: dict[str, Floats]
    """By an example's id, each [d]: of up to `MAX_KEPT` in all, each label's first."""
    judged: Sequence[Judged] = ()
    """The answer to each example [H]."""


def measure(
    files: Path,
    version: int,
    holdout: Mapping[str, Sequence[Example]],
    check: Callable[[], None],
    labels: Sequence[str] | None = None,
) -> Measured:
    """Load a version as a server will and measure it on the hold-out of labels, which are all that it may answer.

    Args:
        files: the version's artifact folder.
        version: its number.
        holdout: examples by label; all labels that the version knows and that are not masked.
        check: called for each label; what it raises ends the measurement.
        labels: what each row is called now; None: as the files say.

    Raises:
        StepFailed: the version cannot be loaded: parts that do not fit, weights that are not finite, other answers than
            the trainer's.
    """
    loaded = load_checked(files, version)
    try:
        names = loaded.labels if labels is None else labels
        classifier = loaded.classifier(frozenset(names) - holdout.keys(), labels=names)
        tallies, nearness = {}, [np.zeros(0, np.float32)]
        kept: dict[str, Floats] = {}
        judged: list[Judged] = []
        each = MAX_KEPT // max(1, len(holdout))
        for label, examples in holdout.items():
            check()
            if examples:
                features = compute_features(loaded, examples)
                answers = _answers(classifier, features, examples, label)
                tallies[label] = Tally(hits=sum(one.predicted == label for one in answers), total=len(answers))
                judged += answers
                nearness.append(classifier.nearness(features))
                kept |= {example.id: row for example, row in zip(examples[:each], features, strict=False)}
        return Measured(tallies=tallies, nearness=np.concatenate(nearness), features=kept, judged=judged)
    finally:
        loaded.close()


@contextmanager
def measuring_beside(
    files: Path | None, version: int, holdout: Mapping[str, Sequence[Example]], labels: Sequence[str] | None = None
) -> Iterator[Future[Measured]]:
    """Measure on a thread of its own while the block does something else, and give up at the block's end.

    Without `files` nothing is measured, and no label has a tally. Arguments and errors are those of `measure`.
    """
    ended = threading.Event()

    def check() -> None:
        if ended.is_set():
            raise Interrupted("nobody waits for the measurement any more")

    with ThreadPoolExecutor(1, "measuring") as thread:
        try:
            yield thread.submit(measure, files, version, holdout, check, labels) if files else _nothing()
        finally:
            ended.set()


def _nothing() -> Future[Measured]:
    future: Future[Measured] = Future()
    future.set_result(Measured(tallies={}, nearness=np.zeros(0, np.float32), features={}))
    return future


class Handover:
    """Hand the newest candidate's features from the step that measured it to what looks at the hold-out next."""

    def __init__(self) -> None:
        self._latest: tuple[int, dict[str, Floats]] = 0, {}

    def put(self, version: int, features: dict[str, Floats]) -> None:
        """Replace what was there."""
        self._latest = version, features

    def take(self, version: int) -> dict[str, Floats]:
        """Return the features, each [d], by an example's id, or nothing unless they are that version's. Only once."""
        found, features = self._latest
        if found != version:
            return {}
        self._latest = 0, {}
        return features


def verified_folder(artifacts: ArtifactStore, record: VersionRecord) -> Path:
    """Return a version's folder after comparing its files with what was published.

    Raises:
        VersionDamaged: a file is missing or another.
        Blocked: the bucket that has them cannot be used now.
    """
    try:
        return artifacts.verify(record.version, record.digest)
    except CorruptArtifact as error:
        raise VersionDamaged(f"version {record.version} is damaged: {error}") from error
    except BucketUnavailable as error:
        raise Blocked(str(error)) from error


def load_checked(files: Path, version: int) -> LoadedVersion:
    """Load a version on the learner's own engine.

    Raises:
        StepFailed: naming the version, the stage and the reason.
    """
    try:
        return load(files, version, ENGINE)
    except LoadError as error:
        raise StepFailed(f"version {version} cannot be loaded: {error}") from error


def compute_features(loaded: LoadedVersion, examples: Sequence[Example]) -> Floats:
    """Return the features [N, d] of examples, computed batch by batch."""
    batches = [examples[start : start + BATCH] for start in range(0, len(examples), BATCH)]
    computed = [loaded.features(np.stack([example.tensor for example in batch])) for batch in batches]
    return np.concatenate([np.zeros((0, loaded.feature_length), np.float32), *computed])


def _answers(classifier: Classifier, features: Floats, examples: Sequence[Example], label: str) -> list[Judged]:
    """Return the most probable answer to each of a label's examples, by their features [N, d]."""
    probabilities = classifier(features)  # [N, K]
    best = probabilities.argmax(axis=1)
    highest = probabilities[np.arange(len(best)), best]
    return [
        Judged(id=example.id, label=label, predicted=classifier.labels[row], probability=probability)
        for example, row, probability in zip(examples, best.tolist(), highest.tolist(), strict=True)
    ]
