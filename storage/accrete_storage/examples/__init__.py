"""Labelled examples that are pending, in the exemplar memory, in quarantine or in review."""
