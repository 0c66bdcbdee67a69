"""One incremental step, from pending examples to a committed version."""
