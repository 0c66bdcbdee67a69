"""Labelled examples: pending, in the exemplar memory, in quarantine, in review."""
