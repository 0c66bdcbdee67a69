"""A model version: its files, an engine from inputs to features, and a rule from features to probabilities."""

import accrete_kit  # noqa: F401 - silences libraries before ONNX Runtime is imported
