"""The priority of one thread."""

from __future__ import annotations

import os
import sys
import threading


def lower_priority(nice: int) -> None:
    """Lower the calling thread's priority to `nice`, and never raise it. Linux alone has threads with their own."""
    if sys.platform != "linux":
        return
    thread = threading.get_native_id()
    os.setpriority(os.PRIO_PROCESS, thread, max(nice, os.getpriority(os.PRIO_PROCESS, thread)))
