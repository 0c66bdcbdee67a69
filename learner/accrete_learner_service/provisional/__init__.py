"""Provisional classes, answered by prototypes of labels that no step has learned yet."""
