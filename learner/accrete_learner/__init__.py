"""Class-incremental learning: tensors in, tensors out. Importing this package imports neither torch nor a store."""
