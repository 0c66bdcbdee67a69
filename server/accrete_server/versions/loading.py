"""From a version's number to a version that may serve: verified, loaded, checked against what this server expects."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from accrete_kit.failpoints import around
from accrete_model.artifact_store import ArtifactStore
from accrete_model.config import EngineConfig
from accrete_model.errors import CorruptArtifact, LoadError
from accrete_model.input_spec import InputSpec
from accrete_model.loaded_version import LoadedVersion, load
from accrete_server.errors import BrokenCandidate
from accrete_server.metrics.collectors import ModelMetrics

_log = logging.getLogger(__name__)


def verify(artifacts: ArtifactStore, version: int, digest: str | None) -> Path:
    """The version's folder, every file of it hashed again and compared with the manifest whose SHA-256 is `digest`.

    Raises BrokenCandidate naming the file, by its name within the folder of versions.
    """
    try:
        return artifacts.verify(version, digest)
    except (CorruptArtifact, OSError) as problem:
        raise BrokenCandidate(version, "verify", str(problem)) from problem


class Loader:
    """Loads candidates; keeps nothing of one that fails."""

    def __init__(self, artifacts: ArtifactStore, engine: EngineConfig, spec: InputSpec, metrics: ModelMetrics) -> None:
        self._artifacts = artifacts
        self._engine = engine
        self._spec = spec
        self._metrics = metrics

    def load(self, version: int, digest: str | None) -> LoadedVersion:
        """The version, ready to serve. Raises BrokenCandidate, which is logged and counted."""
        started = time.perf_counter()
        try:
            with around("load"):
                path = verify(self._artifacts, version, digest)
                verified = time.perf_counter()
                loaded = self._load(path, version)
        except BrokenCandidate as problem:
            self._metrics.broken.labels(problem.stage).inc()
            _log.error("broken_candidate", extra={"version": version, "stage": problem.stage, "reason": problem.reason})
            raise
        self._time({"verify": verified - started, **loaded.stage_seconds})
        return loaded

    def _load(self, path: Path, version: int) -> LoadedVersion:
        try:
            loaded = load(path, version, self._engine)
        except LoadError as problem:
            raise BrokenCandidate(version, problem.stage, problem.reason) from problem
        if loaded.spec != self._spec:
            loaded.close()
            raise BrokenCandidate(version, "fit", f"takes {loaded.spec}; this server is set to {self._spec}")
        return loaded

    def _time(self, stages: dict[str, float]) -> None:
        for stage, seconds in stages.items():
            self._metrics.swap_seconds.labels(stage).observe(seconds)
