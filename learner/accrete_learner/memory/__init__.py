"""The exemplar memory with its size, the examples that stay in it, and the calibration split."""
