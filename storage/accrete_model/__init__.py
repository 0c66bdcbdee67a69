"""Reads a model version's artifact and answers from it: features from an engine, probabilities from a rule."""
