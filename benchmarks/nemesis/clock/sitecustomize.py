"""Python imports this by itself in a process whose path has this folder: its wall clock can be stepped from outside.

What the program asks of Python's wall clock is off by the seconds that the file `STEPPED_CLOCK` holds. Clocks that only
go forward stay as they are, as they do when a machine's clock is set. gRPC's Python code compares the wall clock with
deadlines that its core has from the C library's, which cannot be stepped from here: it is told the true time.
"""

import os
import sys
import time

_wall, _wall_ns = time.time, time.time_ns


def _offset() -> float:
    if sys._getframe(2).f_globals.get("__name__", "").startswith("grpc."):
        return 0.0
    try:
        with open(os.environ["STEPPED_CLOCK"], encoding="ascii") as file:
            return float(file.read() or 0)
    except (OSError, ValueError):  # not written yet, or just being written
        return 0.0


if "STEPPED_CLOCK" in os.environ:
    time.time = lambda: _wall() + _offset()
    time.time_ns = lambda: _wall_ns() + int(_offset() * 1e9)
