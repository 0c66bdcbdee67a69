"""Predict: admission, decoding, computing, encoding."""
