"""Class-incremental learning on tensors. Importing this package imports neither torch nor a store."""
