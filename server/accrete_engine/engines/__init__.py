"""The engines: each runs a version's backbone, batch in, features out."""

from __future__ import annotations

from accrete_engine.artifact import Artifact
from accrete_engine.config import EngineConfig
from accrete_engine.engines.base import Engine


def create(artifact: Artifact, config: EngineConfig) -> Engine:
    """The engine that `config` names, ready to run. Raises LoadError (stage "engine")."""
    if config.engine == "torch":
        # Imported only when chosen: torch takes seconds and hundreds of megabytes that the other engine does not need.
        from accrete_engine.engines.torch_ import TorchEngine

        return TorchEngine(artifact, config)
    from accrete_engine.engines.onnxruntime_ import OnnxRuntimeEngine

    return OnnxRuntimeEngine(artifact, config)
