"""The priority of one thread."""

from __future__ import annotations

import os
import threading


def lower_priority(nice: int) -> None:
    """Lower the calling thread's priority to `nice`, as Linux does given a thread's id, and never raise it."""
    thread = threading.get_native_id()
    os.setpriority(os.PRIO_PROCESS, thread, max(nice, os.getpriority(os.PRIO_PROCESS, thread)))
