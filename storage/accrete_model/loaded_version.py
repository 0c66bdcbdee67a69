"""A version in memory, checked against its golden outputs and warmed.

Shapes: N images, C classes, d feature length, G golden inputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accrete_kit.failpoints import around
from accrete_kit.stopwatch import Stopwatch
from accrete_model.config import EngineConfig
from accrete_model.engines import create
from accrete_model.engines.base import Engine
from accrete_model.errors import LoadError
from accrete_model.files import BACKBONES_FOLDER
from accrete_model.frozen import BackboneStore, acquire
from accrete_model.golden import check_features, check_probabilities
from accrete_model.input_spec import InputSpec
from accrete_model.reader import Artifact, read_artifact
from accrete_model.scoring import Classifier, PrototypeSet
from accrete_model.unknown import Threshold, threshold
from accrete_model.vectors import Floats

NO_MASK: frozenset[str] = frozenset()


class LoadedVersion:
    """One model version in memory. Immutable, and safe to use from several threads until it is closed."""

    def __init__(self, version: int, artifact: Artifact, engine: Engine) -> None:
        self.version = version
        self.labels = artifact.card.labels
        """Of each row, as its files say; its record says what it is called now."""
        self.spec: InputSpec = artifact.card.spec
        self.feature_length = artifact.card.feature_length
        self.method = artifact.card.method
        self.feature_space = artifact.card.frozen or f"version {version}"
        """Names what makes features; those of versions with the same are comparable."""
        self.engine_name = engine.name
        self.on_gpu = engine.on_gpu
        self.max_batch = engine.batch_sizes[-1]
        self.stage_seconds: Mapping[str, float] = {}
        """Seconds that each stage of `load` took, by "read", "engine", "golden", "warm"."""
        self._artifact = artifact
        self._engine = engine

    def features(self, batch: NDArray[Any]) -> Floats:
        """Return features [N, d] of a batch [N, *spec.shape] in the type that `spec` names."""
        return self._engine.run(batch)

    def classifier(
        self,
        mask: Set[str] = NO_MASK,
        prototypes: PrototypeSet | None = None,
        labels: Sequence[str] | None = None,
    ) -> Classifier:
        """Return the rule from features to probabilities.

        Args:
            mask: labels to leave out.
            prototypes: of provisional classes.
            labels: what each row is called now; see `Classifier`.

        Raises:
            ValueError: when the prototypes do not fit the feature length, or the labels not the rows.
        """
        artifact = self._artifact
        return Classifier(artifact.card, artifact.rule, artifact.means, mask, prototypes, labels)

    def unknown_below(self, rate: float) -> Threshold:
        """Return the cosine below which an image is of no class, with at most `rate` (0 to below 1) of false alarms."""
        return threshold(self._artifact.nearness, rate)

    def close(self) -> None:
        """Free the engine. No request may use this version now or later."""
        self._engine.close()


def load(
    path: Path,
    version: int,
    config: EngineConfig,
    backbones: Path | None = None,
    checks: Executor | None = None,
) -> LoadedVersion:
    """Load the files in the folder `path`, and check that they compute what the trainer computed.

    Args:
        path: the version's folder.
        version: its number.
        config: of the engine.
        backbones: the folder of frozen backbones; None: the one beside the folder that `path` is in, as in a data
            directory. A candidate that is not published yet is elsewhere, and needs it.
        checks: runs what the new engine computes before it serves, which takes most of the time; None: the caller.

    Raises:
        LoadError: naming the stage ("read", "engine", "golden", "warm") and the reason; nothing is left open then.
    """
    watch = Stopwatch()
    with _stage(watch, "read"):
        artifact = read_artifact(path)
    store = BackboneStore(backbones or path.resolve().parent.parent / BACKBONES_FOLDER)
    with _stage(watch, "engine"):
        frozen = artifact.card.frozen
        engine = acquire(store, frozen, config) if frozen else create(artifact, config)
    try:
        loaded = LoadedVersion(version, artifact, engine)
        if checks is None:
            _try_out(loaded, engine, artifact, store, watch)
        else:
            checks.submit(_try_out, loaded, engine, artifact, store, watch).result()
    except BaseException:
        engine.close()
        raise
    loaded.stage_seconds = watch.seconds
    return loaded


@contextmanager
def _stage(watch: Stopwatch, name: str) -> Iterator[None]:
    """Time one stage of loading, and give every failure in it the stage's name."""
    try:
        with watch.stage(name):
            yield
    except LoadError:
        raise
    except Exception as error:
        raise LoadError(name, f"{type(error).__name__}: {error}") from error


def _try_out(loaded: LoadedVersion, engine: Engine, artifact: Artifact, store: BackboneStore, watch: Stopwatch) -> None:
    with _stage(watch, "golden"), around("check"):
        _check_golden(loaded, artifact, store)
    with _stage(watch, "warm"), around("warm"):
        _warm(engine, artifact)


def _check_golden(loaded: LoadedVersion, artifact: Artifact, store: BackboneStore) -> None:
    card, golden = artifact.card, artifact.golden
    if golden.input is not None:
        features = loaded.features(golden.input)
    else:  # the engine was checked when it was made; whether the head is for this backbone was not
        features = store.golden(card.frozen, card.spec).features
    check_features(features, golden.features)
    # From the trainer's features, since a rule may amplify a difference in features that the engine is allowed.
    check_probabilities(loaded.classifier()(golden.features), golden.probabilities)


def _warm(engine: Engine, artifact: Artifact) -> None:
    if artifact.golden.input is None:  # done when the engine was made, whose other users need not wait again
        return
    for size in engine.batch_sizes:
        engine.run(np.resize(artifact.golden.input, (size, *artifact.card.spec.shape)))
