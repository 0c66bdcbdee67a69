"""Waiting for what other threads and processes do, and finding a free port for them."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any

_SOON_S = 2.0


def until(condition: Callable[[], Any], what: str | Callable[[], str] = "it", *, seconds: float = 300.0) -> Any:
    """Return what `condition` returns once that is true, having called it again and again.

    Args:
        condition: What is waited for.
        what: What to name when it does not come, or a function that returns that (a log, say).
        seconds: The longest wait. It is generous by default, for the machine may be busy with something else.

    Raises:
        TimeoutError: `condition` was false to the end.
    """
    began = time.monotonic()
    while not (found := condition()):
        waited = time.monotonic() - began
        if waited > seconds:
            raise TimeoutError(f"not within {seconds:g} s: {what() if callable(what) else what}")
        # What takes long wants the processor, which some of the questions take more of than a little.
        time.sleep(0.01 if waited < _SOON_S else 0.04)
    return found


def free_port() -> int:
    """Return a port on which nobody listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
