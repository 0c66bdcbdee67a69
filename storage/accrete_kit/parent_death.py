"""Ties the life of a process to its parent's: `python -m accrete_kit.parent_death PARENT_PID PROGRAM [ARGUMENT ...]`.

Done in the child, once it runs, rather than between fork and exec, where a parent with threads may run nothing safely:
with gRPC's threads in it, Python code there crashed the child.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1
"""linux/prctl.h"""


def tethered(command: Sequence[str]) -> list[str]:
    """A command that runs `command` under its own process id and ends it in order when this thread or process ends."""
    return [sys.executable, "-m", "accrete_kit.parent_death", str(os.getpid()), *command]


def end_with_parent(parent: int, by: signal.Signals) -> None:
    """Has the kernel send `by` to this process when the thread that started it ends; ends now if it has."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, by, 0, 0, 0)
    if os.getppid() != parent:
        raise SystemExit(0)


def main() -> None:
    """Ties this process to the parent that is named, then becomes the program."""
    end_with_parent(int(sys.argv[1]), signal.SIGTERM)
    os.execvp(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
