"""From a version's number to a version that may serve: verified, loaded, checked against what this server expects."""

from __future__ import annotations

import logging
import time

from accrete_engine.config import EngineConfig
from accrete_engine.errors import LoadError
from accrete_engine.loaded import LoadedVersion, load
from accrete_engine.spec import InputSpec
from accrete_server.metrics import ModelMetrics
from accrete_storage.artifacts import ArtifactStore
from accrete_storage.errors import StorageError

_log = logging.getLogger(__name__)


class BrokenCandidate(Exception):
    """A version cannot serve. `stage`: "verify", "read", "engine", "golden", "warm" or "fit"."""

    def __init__(self, version: int, stage: str, reason: str) -> None:
        super().__init__(f"version {version} cannot serve: {stage}: {reason}")
        self.version = version
        self.stage = stage
        self.reason = reason


class Loader:
    """Loads candidates; keeps nothing of one that fails."""

    def __init__(self, artifacts: ArtifactStore, engine: EngineConfig, spec: InputSpec, metrics: ModelMetrics) -> None:
        self._artifacts = artifacts
        self._engine = engine
        self._spec = spec
        self._metrics = metrics

    def load(self, version: int, digest: str | None) -> LoadedVersion:
        """The version, its files hashed again and compared with the manifest whose SHA-256 is `digest`.

        Raises BrokenCandidate.
        """
        started = time.perf_counter()
        try:
            path = self._artifacts.verify(version, digest)
            verified = time.perf_counter()
            loaded = load(path, version, self._engine)
        except (StorageError, OSError) as problem:
            raise self._broken(version, "verify", str(problem)) from problem
        except LoadError as problem:
            raise self._broken(version, problem.stage, problem.reason) from problem
        self._check_fit(loaded)
        self._time({"verify": verified - started, **loaded.stage_seconds})
        return loaded

    def _check_fit(self, loaded: LoadedVersion) -> None:
        if loaded.spec != self._spec:
            loaded.close()
            raise self._broken(loaded.version, "fit", f"takes {loaded.spec}; this server is set to {self._spec}")

    def _broken(self, version: int, stage: str, reason: str) -> BrokenCandidate:
        self._metrics.broken.labels(stage).inc()
        _log.error("broken_candidate", extra={"version": version, "stage": stage, "reason": reason})
        return BrokenCandidate(version, stage, reason)

    def _time(self, stages: dict[str, float]) -> None:
        for stage, seconds in stages.items():
            self._metrics.swap_seconds.labels(stage).observe(seconds)
