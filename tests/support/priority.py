"""Nodes that train at full priority: beside other tests a lowered one would only make a test long."""

from __future__ import annotations

FULL_PRIORITY = {"ACCRETE_LEARNER__NICE": "0", "ACCRETE_LEARNER__OWN_NICE": "0"}
"""For the environment of `accrete up`, `demo` and `bench`."""
