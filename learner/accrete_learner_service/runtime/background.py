"""Work in the background of what serves."""

from __future__ import annotations

import os
import threading


def lower_priority(nice: int) -> None:
    """Set the priority of the calling thread alone, as Linux does given a thread's id; never raise it."""
    thread = threading.get_native_id()
    os.setpriority(os.PRIO_PROCESS, thread, max(nice, os.getpriority(os.PRIO_PROCESS, thread)))
