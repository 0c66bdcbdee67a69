"""Ties the life of a process to its parent's, also as `python -m accrete_kit.parent_death PID PROGRAM [ARGUMENT ...]`.

This is done in the child once it runs. Between fork and exec, a parent with threads may run nothing safely, and with
gRPC's threads in it, Python code there crashed the child.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1
"""linux/prctl.h"""


def command_ending_with_parent(command: Sequence[str]) -> list[str]:
    """Return a command that becomes `command`, which gets SIGTERM when the thread or process that starts it ends."""
    return [sys.executable, "-m", "accrete_kit.parent_death", str(os.getpid()), *command]


def end_with_parent(parent: int, by: signal.Signals) -> None:
    """Have the kernel send `by` to this process when the thread that started it ends.

    Raises:
        SystemExit: it has ended by now, for `parent` is not this process's parent any more.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, by, 0, 0, 0)
    if os.getppid() != parent:
        raise SystemExit(0)


def main() -> None:
    """Tie this process to the parent that is named, then become the program."""
    end_with_parent(int(sys.argv[1]), signal.SIGTERM)
    os.execvp(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
