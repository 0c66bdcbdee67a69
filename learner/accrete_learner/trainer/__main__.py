"""The trainer process `python -m accrete_learner.trainer`, which runs incremental steps from files to files.

Each line on standard input is a step's folder (see the module `job`). What it answers is said in the module `standby`.
"""

import importlib
import logging
import sys
from pathlib import Path

import torch

from accrete_learner.trainer.job import Job
from accrete_learner.trainer.run_job import run_job
from accrete_learner.trainer.standby import Reporter, stand_by
from accrete_learner.training.precision import use_threads


def main() -> int:
    """Run the process and return its exit code."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    return stand_by(_run, before_first=_import_the_rest)


def _import_the_rest() -> None:
    """Import what torch's optimizers import when the first is made, also where nothing is compiled.

    It takes almost as long as importing torch itself, and another 150 MB.
    """
    importlib.import_module("torch._dynamo")


def _run(folder: Path, reporter: Reporter) -> None:
    job = Job.read(folder)
    use_threads(job.training.threads)
    try:
        run_job(folder, job, reporter.progress)
    except (torch.cuda.OutOfMemoryError, MemoryError) as error:
        raise OSError(f"out of memory; a smaller batch_size or backbone needs less ({error})") from error


if __name__ == "__main__":
    sys.exit(main())
