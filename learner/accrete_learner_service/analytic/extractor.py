"""Features of examples by a frozen backbone, in the learner's process.

Shapes: n examples, d feature length.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accrete_learner.config import ModelConfig
from accrete_learner.frozen_backbone import frozen_backbone
from accrete_learner_service.errors import StepFailed
from accrete_model.config import EngineConfig
from accrete_model.errors import LoadError
from accrete_model.frozen import BackboneStore, FrozenBackbone, acquire
from accrete_model.vectors import Floats
from accrete_storage.examples.example import Example
from accrete_storage.examples.features import Kind

#: All cores: the learner's priority is below serving's, and what is taught should be known at once.
ENGINE = EngineConfig(engine="onnxruntime", device="cpu", threads=0)


class FrozenExtractor:
    """A frozen backbone, ready to run. For one thread."""

    def __init__(self, model: ModelConfig, store: BackboneStore, tuned: FrozenBackbone | None = None) -> None:
        """Put a backbone into the store, unless it is there, and make its engine.

        Args:
            model: names the backbone.
            store: keeps it.
            tuned: what a deep step made of it; None: the backbone as it is.

        Raises:
            ValueError: the configuration names no frozen backbone, or one that cannot be built or run.
            OSError: it cannot be written.
        """
        backbone = tuned or frozen_backbone(model)
        self.name = model.backbone
        self.spec = model.input_spec
        self.feature_length = backbone.feature_length
        self.kind: Kind = "float16" if backbone.spec.is_image else "float32"
        """How its features are stored: those of images have unit length."""
        try:
            self.digest = store.put(backbone)
            self.golden_features = store.golden(self.digest).features
            """Of the backbone's golden inputs [G, d]."""
            self._engine = acquire(store, self.digest, ENGINE)
        except LoadError as error:
            raise ValueError(f"model.backbone = {model.backbone!r}: {error}") from error

    def __call__(self, examples: Sequence[Example]) -> Floats:
        """Return the features [n, d] of examples, one or more.

        Raises:
            StepFailed: an example does not have the backbone's input form, or a feature is not finite.
        """
        for example in examples:
            if example.tensor.shape != self.spec.shape:
                got = f"{example.tensor.dtype} {list(example.tensor.shape)}"
                raise StepFailed(f"example {example.id!r} is {got}; the backbone takes {self.spec}")
        features = self.run(np.stack([example.tensor for example in examples]).astype(self.spec.dtype))
        finite = np.isfinite(features).all(axis=1)
        if not finite.all():
            bad = examples[int(np.argmin(finite))]
            raise StepFailed(f"example {bad.id!r} of {bad.label!r} has a feature that is not finite")
        return features

    def run(self, batch: NDArray[Any]) -> Floats:
        """Return the features [n, d] of inputs [n, *spec.shape]."""
        return self._engine.run(batch)

    def close(self) -> None:
        """Free the engine."""
        self._engine.close()
