"""The trainer process `python -m accrete_learner.trainer`, which runs one incremental step from files to files.

It writes {"stage": "ready"} once its imports are done, so that a process can stand by. Then it reads one line from
standard input, the step's folder as a JSON string (see the module `job`), runs the step and exits with 0. It also exits
with 0 when standard input ends before a line, and with 3 when the step failed; the last line then says why. Each line
on standard output is a JSON object. All other output goes to standard error.
"""

import json
import logging
import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import torch

from accrete_learner.trainer.job import EXIT_STEP_FAILED, Job
from accrete_learner.trainer.run_job import run_job
from accrete_learner.training.precision import use_threads

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


def main() -> int:
    """Run the process and return its exit code."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    with _claim_stdout() as output:
        reporter = Reporter(output)
        reporter.say("ready")
        line = sys.stdin.readline()
        if not line.endswith("\n"):
            # The end of input: whoever kept this process standing by is gone, perhaps halfway through the line.
            return 0
        return _run(Path(json.loads(line)), reporter)


def _run(folder: Path, reporter: Reporter) -> int:
    try:
        job = Job.read(folder)
        use_threads(job.training.threads)
        run_job(folder, job, reporter.progress)
    # The one place that turns any failure of a step into an event, after which the process ends.
    except Exception as error:
        log.exception("the step in %s failed", folder)
        reporter.say("error", reason=_reason(error))
        return EXIT_STEP_FAILED
    reporter.say("done")
    return 0


def _reason(error: Exception) -> str:
    if isinstance(error, torch.cuda.OutOfMemoryError | MemoryError):
        return f"out of memory; a smaller batch_size or backbone needs less ({error})"
    return str(error) if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: {error}"


def _claim_stdout() -> TextIO:
    """Return standard output for the events alone. What libraries print there, from C too, goes to standard error."""
    claimed = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return claimed


if __name__ == "__main__":
    sys.exit(main())
