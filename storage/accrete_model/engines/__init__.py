"""The engines, each of which runs a version's backbone from a batch of inputs to features.

An engine is found by its name in the entry point group `accrete.engines`, so that the PyTorch engine can live with the
networks that it builds, and a package of its own can bring another.
"""

from __future__ import annotations

from importlib.metadata import entry_points

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
    found = entry_points(group=GROUP, name=config.engine)
    if not found:
        known = ", ".join(sorted({entry.name for entry in entry_points(group=GROUP)})) or "none"
        raise LoadError("engine", f"no engine {config.engine!r} is installed; there are: {known}")
    # Imported only when chosen: torch takes seconds and hundreds of megabytes that the other engine does not need.
    engine: Engine = next(iter(found)).load()(artifact, config)
    return engine
