"""The trainer process `python -m accrete_learner.trainer`, which runs incremental and deep steps from files to files.

Each line on standard input is a step's folder (see the modules `job` here and in `deep`). What it answers is said in
the module `standby`.
"""

import logging
import sys
from functools import partial
from pathlib import Path

import torch

from accrete_learner.deep import job as deep
from accrete_learner.trainer.job import Job
from accrete_learner.trainer.ranks import run_ranks
from accrete_learner.trainer.run_job import run_job
from accrete_learner.trainer.standby import Reporter, stand_by
from accrete_learner.training.precision import use_threads


def main() -> int:
    """Run the process and return its exit code."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    return stand_by(_run)


def _run(folder: Path, reporter: Reporter) -> None:
    try:
        if (folder / deep.JOB_FILE).exists():
            _run_deep(folder, reporter)
            return
        job = Job.read(folder)
        if job.training.ranks > 1:
            run_ranks(folder, job, reporter.progress, reporter.note, partial(_say_lost, reporter))
            return
        use_threads(job.training.threads)
        run_job(folder, job, reporter.progress, note=reporter.note)
    except (torch.cuda.OutOfMemoryError, MemoryError) as error:
        raise OSError(f"out of memory; a smaller batch_size or backbone needs less ({error})") from error


def _say_lost(reporter: Reporter, reason: str) -> None:
    reporter.say("error", reason=reason)


def _run_deep(folder: Path, reporter: Reporter) -> None:
    # It brings ONNX and its runtime, which no other step has a use for.
    from accrete_learner.deep.run_deep import run_deep

    job = deep.DeepJob.read(folder)
    use_threads(job.training.threads)
    run_deep(folder, job, reporter.progress, reporter.note)


if __name__ == "__main__":
    sys.exit(main())
