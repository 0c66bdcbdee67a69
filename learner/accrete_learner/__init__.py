"""Class-incremental learning on tensors. Importing this package imports neither torch nor a store."""

import accrete_kit  # noqa: F401 - silences libraries before scikit-learn is imported
