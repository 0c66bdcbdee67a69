"""Provisional classes: prototypes of labels that no step has learned yet."""
