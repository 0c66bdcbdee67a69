"""Engines of frozen backbones: one for each backbone and configuration in a process, however many versions use it."""

from __future__ import annotations

import numpy as np

from accrete_model.config import EngineConfig
from accrete_model.engines.base import Engine
from accrete_model.engines.onnxruntime_ import GraphEngine
from accrete_model.engines.shared import SharedEngines
from accrete_model.errors import LoadError
from accrete_model.frozen.store import BackboneStore
from accrete_model.golden import check_features

_engines = SharedEngines()


def acquire(store: BackboneStore, digest: str, config: EngineConfig) -> Engine:
    """Return the engine of a backbone, checked against its golden features and warmed when it is made.

    It is ONNX Runtime's, whatever `config.engine` says: a frozen backbone is a graph. Close it after use.

    Args:
        store: has the backbone.
        digest: of it.
        config: where and how to run it.

    Raises:
        LoadError: naming the stage ("read", "engine", "golden", "warm") and the reason; nothing is left open then.
    """
    return _engines.acquire(_key(digest, config), lambda: _make(store, digest, config))


def users(digest: str, config: EngineConfig) -> int:
    """Return how many use the engine of a backbone now."""
    return _engines.users(_key(digest, config))


def _key(digest: str, config: EngineConfig) -> tuple[object, ...]:
    return digest, config.device, config.threads, config.max_batch


def _make(store: BackboneStore, digest: str, config: EngineConfig) -> Engine:
    backbone, golden = store.get(digest), store.golden(digest)
    engine = GraphEngine(backbone.graph, config)
    try:
        check_features(engine.run(golden.input), golden.features)
        for size in engine.batch_sizes:
            engine.run(np.resize(golden.input, (size, *backbone.spec.shape)))
    except LoadError:
        engine.close()
        raise
    except Exception as error:  # ONNX Runtime's own kinds, straight from Exception
        engine.close()
        raise LoadError("warm", f"{backbone.name}: {type(error).__name__}: {error}") from error
    return engine
