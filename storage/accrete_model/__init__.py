"""A model version: its files, an engine from inputs to features, and a rule from features to probabilities."""
