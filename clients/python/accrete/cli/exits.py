"""Exit statuses, and the one place that turns errors into them."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable

from .._errors import AccreteError, Cancelled, DeadlineExceeded, NotLearned, Unavailable

OK = 0
FAILED = 1
USAGE = 2
UNREACHABLE = 3
INTERRUPTED = 130

EPILOG = """\
exit status:
  0    done
  1    the server refused it, or part of it
  2    wrong usage or configuration
  3    the server could not be reached, or did not answer in time
  130  interrupted
"""


class UsageError(Exception):
    """What was asked for on the command line makes no sense."""


def guarded(run: Callable[[argparse.Namespace], int], options: argparse.Namespace) -> int:
    """Runs a command; what it raises is told in one line on stderr."""
    try:
        status = run(options)
        sys.stdout.flush()
    except UsageError as problem:
        return _told(problem, USAGE)
    except AccreteError as problem:
        return _told(problem, status_of(problem))
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    return status


def status_of(problem: AccreteError) -> int:
    """The exit status for an error."""
    if isinstance(problem, NotLearned):
        return FAILED
    return UNREACHABLE if isinstance(problem, Unavailable | DeadlineExceeded | Cancelled) else FAILED


def _told(problem: Exception, status: int) -> int:
    print(f"accrete: {problem}", file=sys.stderr)
    return status
