"""The engines, each of which runs a version's backbone from a batch of inputs to features.

An engine is found by its name in the entry point group `accrete.engines`, so that the PyTorch engine can live with the
networks that it builds, and a package of its own can bring another.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoints, entry_points

from accrete_model.config import EngineConfig
from accrete_model.engines.base import Engine
from accrete_model.errors import LoadError
from accrete_model.reader import Artifact

GROUP = "accrete.engines"


def create(artifact: Artifact, config: EngineConfig) -> Engine:
    """Return the engine that `config` names, ready to run.

    Raises:
        LoadError: when no such engine is installed, or it cannot run the artifact (stage "engine").
    """
    found = _installed().select(name=config.engine)
    if not found:
        known = ", ".join(sorted({entry.name for entry in _installed()})) or "none"
        raise LoadError("engine", f"no engine {config.engine!r} is installed; there are: {known}")
    # Imported only when chosen: torch takes seconds and hundreds of megabytes that the other engine does not need.
    engine: Engine = next(iter(found)).load()(artifact, config)
    return engine


@cache
def _installed() -> EntryPoints:
    """Return all of the group. Looking for them reads a file of each installed package: more than most loads take."""
    return entry_points(group=GROUP)
