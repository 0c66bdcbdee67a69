"""The priority of what runs in a worker of Ray, which gives its workers nearly the lowest."""

from __future__ import annotations

import os


def as_the_raylet() -> bool:
    """Give the calling thread, and what it starts, the priority of the raylet; return whether it has it then.

    Ray's workers run at nice 15 (`RAY_worker_niceness`). Beside others on a busy machine, a server then answered a
    quarter of the calls that it answers when it is started by hand. Only root may raise a priority again.
    """
    try:
        wanted = os.getpriority(os.PRIO_PROCESS, int(os.environ["RAY_RAYLET_PID"]))
    except (KeyError, ValueError, ProcessLookupError):  # in no worker of Ray
        return True
    if os.getpriority(os.PRIO_PROCESS, 0) != wanted:
        try:
            os.setpriority(os.PRIO_PROCESS, 0, wanted)
        except PermissionError:
            return False
    return True
