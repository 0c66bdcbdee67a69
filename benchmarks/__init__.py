"""What the documentation's figures come from. None of it is a test; `python -m benchmarks.NAME --short` tries one."""

import contextlib

# `benchmarks.gpu.run` starts where nothing is installed yet.
with contextlib.suppress(ModuleNotFoundError):
    import accrete_kit  # noqa: F401 - silences libraries before ONNX Runtime is imported
