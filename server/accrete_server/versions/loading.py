"""From a version's number to a version that is verified, loaded and checked, and may serve."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from accrete_kit.failpoints import around
from accrete_kit.priority import lower_priority
from accrete_kit.stopwatch import Stopwatch
from accrete_model.artifact_store import ArtifactStore
from accrete_model.config import EngineConfig
from accrete_model.errors import BucketUnavailable, CorruptArtifact, LoadError
from accrete_model.input_spec import InputSpec
from accrete_model.loaded_version import LoadedVersion, load
from accrete_server.errors import BrokenCandidate
from accrete_server.metrics.collectors import ModelMetrics

FETCH = "fetch"
"""The stage of bringing a version here from a bucket."""

_CHECKS_NICE = 10
"""The learner's priority; trainers have 19."""

_log = logging.getLogger(__name__)


def verify(artifacts: ArtifactStore, version: int, digest: str | None) -> Path:
    """Return the version's folder, once every file of it was hashed again and compared with the manifest.

    Args:
        artifacts: where versions are.
        version: the version's number.
        digest: SHA-256 of the manifest; None if it is not known.

    Raises:
        BrokenCandidate: a file is missing or changed; it is named within the folder of versions. With the stage FETCH,
            the bucket that has it cannot be used now, which says nothing of its files.
    """
    try:
        return artifacts.verify(version, digest)
    except (CorruptArtifact, OSError) as error:
        raise BrokenCandidate(version, "verify", str(error)) from error
    except BucketUnavailable as error:
        raise BrokenCandidate(version, FETCH, str(error)) from error


class Loader:
    """Load candidates, and keep nothing of one that fails."""

    def __init__(self, artifacts: ArtifactStore, engine: EngineConfig, spec: InputSpec, metrics: ModelMetrics) -> None:
        self._artifacts = artifacts
        self._engine = engine
        self._spec = spec
        self._metrics = metrics

    def load(self, version: int, digest: str | None) -> LoadedVersion:
        """Return the version, ready to serve.

        Raises:
            BrokenCandidate: it cannot serve; the error was logged and counted.
        """
        stopwatch = Stopwatch()
        try:
            with around("load"):
                with stopwatch.stage("verify"):
                    path = verify(self._artifacts, version, digest)
                loaded = self._load(path, version)
        except BrokenCandidate as error:
            self._metrics.broken.labels(error.stage).inc()
            _log.error("version.broken", extra={"version": version, "stage": error.stage, "reason": error.reason})
            raise
        for stage, seconds in {**stopwatch.seconds, **loaded.stage_seconds}.items():
            self._metrics.swap_seconds.labels(stage).observe(seconds)
        return loaded

    def use(self, version: int) -> None:
        """Say which version is live, whose files must stay here."""
        self._artifacts.use(version)

    def _load(self, path: Path, version: int) -> LoadedVersion:
        # On one core, what a new engine computes before it serves would have calls wait. The engine is made on this
        # thread, for its own threads have the priority of the one that makes it.
        try:
            with ThreadPoolExecutor(1, "version-checks", lower_priority, (_CHECKS_NICE,)) as checks:
                loaded = load(path, version, self._engine, checks=checks)
        except LoadError as error:
            raise BrokenCandidate(version, error.stage, error.reason) from error
        if loaded.spec != self._spec:
            loaded.close()
            raise BrokenCandidate(version, "fit", f"takes {loaded.spec}; this server is set to {self._spec}")
        return loaded
