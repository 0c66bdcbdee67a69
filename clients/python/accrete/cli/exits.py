"""Exit statuses, and the one place that turns errors into them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

OK = 0
FAILED = 1
USAGE = 2
UNREACHABLE = 3
INTERRUPTED = 130

EPILOG = """\
Exit status:
  0    done
  1    the server refused it, or part of it
  2    wrong usage or configuration
  3    the server could not be reached, or did not respond in time
  130  interrupted"""

NEEDS_SERVER = (
    'this command needs the server: pip install "accrete[server]", or "accrete[light]" for what does without PyTorch'
)


class UsageError(Exception):
    """What was asked for on the command line makes no sense."""


def and_more(texts: Sequence[str]) -> str:
    """Return how many there are beyond the first, for behind it."""
    return f" (nor are there {len(texts) - 1} others of those named)" if len(texts) > 1 else ""


def guarded(run: Callable[[], int | None]) -> int:
    """Run a command and return its exit status (None: 0); an error that it raises is one line on stderr."""
    try:
        status = run()
        sys.stdout.flush()
    except UsageError as error:
        return _told(error, USAGE)
    except ModuleNotFoundError as error:
        return _told(UsageError(f"{NEEDS_SERVER} ({error})"), USAGE)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except Exception as error:
        from .._errors import AccreteError  # here, since it brings gRPC, which `accrete --help` can do without

        if not isinstance(error, AccreteError):
            raise
        return _told(error, status_of(error))
    return status or OK


def status_of(error: Exception) -> int:
    """Return the exit status of an AccreteError."""
    from .._errors import Cancelled, DeadlineExceeded, NotLearned, Unavailable

    if isinstance(error, NotLearned):
        return FAILED
    return UNREACHABLE if isinstance(error, Unavailable | DeadlineExceeded | Cancelled) else FAILED


def _told(error: Exception, status: int) -> int:
    print(f"accrete: {error}", file=sys.stderr)
    return status
