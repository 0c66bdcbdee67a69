"""Predict: admission, batching, and the one pipeline from a call to its response."""
