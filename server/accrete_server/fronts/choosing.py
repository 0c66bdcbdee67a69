"""Which front serves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import grpc


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A front, and why it was chosen."""

    own: bool
    """Whether it is the one on a completion queue of its own; else handlers."""
    text: str
    """Which one it is, and why not the other, for people."""


def choose(setting: Literal["auto", "queue", "handlers"], lacking: str) -> Chosen:
    """Choose a front.

    Args:
        setting: `server.front`.
        lacking: what the running grpcio lacks for "queue"; empty: nothing.

    Raises:
        ValueError: "queue" is set and cannot be.
    """
    if setting == "handlers":
        return Chosen(own=False, text="handlers: server.front says so")
    if not lacking:
        return Chosen(own=True, text="queue")
    why = f"grpcio {grpc.__version__} has no {lacking}"
    if setting == "queue":
        raise ValueError(f"server.front: 'queue' cannot be: {why}; 'auto' and 'handlers' are allowed")
    return Chosen(own=False, text=f"handlers: {why}")
