"""A process that stands by with its imports done, and forks one child for each step that it is told of.

What is imported once is there for every step, and what a step takes goes back to the kernel with its child. That is
sound because the process that stands by computes nothing itself: it has started no thread, OpenMP's and MKL's among
them, it has not touched a GPU, and no compiler of `torch.compile` works for it. All that begins in the child, as it
would in a process that had just been started.

Standard input has one step's folder a line, as a JSON string. Each line on standard output is a JSON object with a
"stage": "ready" when the next line is waited for, "begun" with the child's "pid", "done" when a step's files are
written, "error" with the "reason" when it failed, and between them what the step itself says: how far it is, and "note"
with a "text" for people. All other output goes to
standard error.
"""

import gc
import json
import logging
import math
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from accrete_kit.parent_death import end_with_parent

log = logging.getLogger(__name__)

#: Seconds between two progress lines of one stage; its last is never left out.
_PROGRESS_INTERVAL_S = 0.1


class Reporter:
    """Write events as JSON lines."""

    def __init__(self, output: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._output = output
        self._clock = clock
        self._last = -math.inf

    def say(self, stage: str, **fields: object) -> None:
        """Write one line at once."""
        self._output.write(json.dumps({"stage": stage, **fields}) + "\n")
        self._output.flush()

    def progress(self, stage: str, done: int, total: int, loss: float) -> None:
        """Write one line, unless the last was only just written.

        A loss that is not finite is null, as JSON has none.
        """
        now = self._clock()
        if done < total and now - self._last < _PROGRESS_INTERVAL_S:
            return
        self._last = now
        self.say(stage, done=done, total=total, loss=round(loss, 6) if math.isfinite(loss) else None)

    def note(self, text: str) -> None:
        """Write what people should know of the step, a sentence."""
        self.say("note", text=text)


def stand_by(run: Callable[[Path, Reporter], None]) -> int:
    """Run each step in a child until standard input ends, or until a child crashes.

    Args:
        run: runs the step in a folder. What it raises is told as the reason that the step failed.

    Returns:
        The exit code: 0, or that of a child that crashed. A signal that ended a child ends this process.
    """
    # What has been imported stays. Else a child's collector would write to all objects that it shares with this
    # process, and so copy them, and this process would look through them when it ends.
    gc.freeze()
    gc.enable()
    with _claim_stdout() as output:
        reporter = Reporter(output)
        while True:
            reporter.say("ready")
            line = sys.stdin.readline()
            if not line.endswith("\n"):
                # The end of input: whoever kept this process standing by is gone, perhaps halfway through the line.
                return 0
            status = _in_child(run, Path(json.loads(line)), reporter)
            if status:
                return _end_like(status)


def _in_child(run: Callable[[Path, Reporter], None], folder: Path, reporter: Reporter) -> int:
    """Run the step in a child, and return its exit code, negative for a signal, once it is gone."""
    here = os.getpid()
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = 1
    try:
        end_with_parent(here, by=signal.SIGKILL)
        _run(run, folder, reporter)
        status = 0
    finally:
        # Nothing that was imported need be put in order for a process whose memory the kernel takes back.
        sys.stderr.flush()
        os._exit(status)


def _run(run: Callable[[Path, Reporter], None], folder: Path, reporter: Reporter) -> None:
    reporter.say("begun", pid=os.getpid())
    try:
        run(folder, reporter)
    # The one place that turns any failure of a step into an event, after which the child ends.
    except Exception as error:
        log.exception("the step in %s failed", folder)
        reporter.say("error", reason=_reason(error))
    else:
        reporter.say("done")


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: {error}"


def _end_like(status: int) -> int:
    """Return the exit code of a child that crashed, or end by the signal that ended it: that tells what it was."""
    if status < 0:
        if -status != signal.SIGKILL:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    return status


def _claim_stdout() -> TextIO:
    """Return standard output for the events alone. What libraries print there, from C too, goes to standard error."""
    claimed = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return claimed
