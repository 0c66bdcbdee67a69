"""Processes forked from one that has imported everything, PyTorch too, so that each starts at once.

That process is started with the first of them, for each worker, and computes nothing itself.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NoReturn

from accrete_learner_service.trainer import child, starter

_context = get_context("forkserver")
_context.set_forkserver_preload(["accrete_learner.trainer.run_job", "tests.chaos.processes"])


def fork(run: Callable[..., object], *arguments: object) -> BaseProcess:
    """Start a process that calls `run`, a function of a module. Everything that it takes is pickled."""
    process = _context.Process(target=run, args=arguments)
    process.start()
    return process


def fork_trainers() -> None:
    """From now on, fork this process's trainers, in place of starting a program that imports PyTorch.

    For a process that `fork` made, which has computed nothing. All else is a trainer's own: what ties it to the
    learner, its priority, its pipes and its main function.
    """
    setattr(child, "start", _ForkedTrainer)  # noqa: B010


class _ForkedTrainer:
    """What the learner uses of a `subprocess.Popen`."""

    def __init__(self, nice: int, module: str) -> None:
        here = str(os.getpid())
        (given, stdin), (stdout, told), (stderr, logged) = os.pipe(), os.pipe(), os.pipe()
        self.pid = os.fork()
        if not self.pid:
            _become_trainer([given, told, logged], [stdin, stdout, stderr], [here, str(nice), module])
        for theirs in (given, told, logged):
            os.close(theirs)
        self.stdin, self.stdout, self.stderr = os.fdopen(stdin, "w"), os.fdopen(stdout), os.fdopen(stderr)
        os.setpgid(self.pid, self.pid)
        self._code: int | None = None

    def poll(self) -> int | None:
        """Return the exit status, negative for a signal; None while it runs."""
        return self._look(os.WNOHANG)

    def wait(self) -> int:
        """Wait for its end; return the exit status."""
        code = self._look(0)
        assert code is not None
        return code

    def _look(self, options: int) -> int | None:
        if self._code is None:
            pid, status = os.waitpid(self.pid, options)
            self._code = os.waitstatus_to_exitcode(status) if pid else None
        return self._code


def _become_trainer(ours: list[int], theirs: list[int], arguments: list[str]) -> NoReturn:
    code = 1
    try:
        os.setpgid(0, 0)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        logging.getLogger().handlers.clear()
        for number, end in enumerate(ours):
            os.dup2(end, number)
        for end in (*ours, *theirs, *_locks()):
            os.close(end)
        sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w", 1)
        sys.argv = ["starter", *arguments]
        starter.main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
    finally:
        os._exit(code)


def _locks() -> list[int]:
    """Return the descriptors of files that the learner has locked, which a program that is started does not inherit.

    By one that is open here, the lock would outlive a killed learner for a moment.
    """
    links = {int(entry.name): os.path.realpath(entry) for entry in Path("/proc/self/fd").iterdir()}
    return [descriptor for descriptor, target in links.items() if target.endswith(".lock")]
