"""The trainer's process, which stands by, forks a child for each step, and may be killed with it at any instant."""

from __future__ import annotations

import json
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from accrete_kit.large_pages import with_large_pages
from accrete_learner_service.errors import TrainerFailed
from accrete_learner_service.runtime.logs import fields
from accrete_learner_service.runtime.status import Progress

log = logging.getLogger(__name__)

TRAINER_MODULE = "accrete_learner.trainer"
#: Seconds between two calls of the check while the trainer runs.
CHECK_S = 0.1
#: Seconds that a killed step's process is waited for.
_GONE_S = 10
#: Seconds over which a step's share of the processor is looked at, and the share below which it gets next to none.
STARVED_S = 30.0
_STARVED_SHARE = 0.02
#: Lines of the trainer's log that a failure's reason may come from.
_LAST_LINES = 20


class Trainer:
    """The trainer that stands by. It belongs to one thread, with whose end the kernel kills it."""

    def __init__(self, *, nice: int, module: str = TRAINER_MODULE) -> None:
        self._nice = nice
        self._module = module
        self._child: _Child | None = None
        self._running = False

    @property
    def pid(self) -> int | None:
        """The id of the process that stands by, when one is alive. A step's own is its child."""
        return self._child.process.pid if self._child and self._child.alive else None

    def stand_by(self) -> None:
        """Start a child unless one is waiting, so that importing torch is no part of a step."""
        if self._child is None or not self._child.alive:
            self.kill()
            self._child = _Child(self._nice, self._module)
            log.info("trainer.started", extra=fields(pid=self._child.process.pid, nice=self._nice))

    def run(
        self,
        folder: Path,
        on_progress: Callable[[Progress], None],
        check: Callable[[], None],
        on_note: Callable[[str], None] = lambda text: None,
    ) -> None:
        """Have the step in `folder` run. Its process has perhaps not ended yet when this returns.

        Args:
            folder: a step's folder, inputs written.
            on_progress: called for each line of progress.
            check: called every `CHECK_S`; what it raises ends the step, and all of the trainer is killed.
            on_note: called with what people should know of the step, a sentence.

        Raises:
            TrainerFailed: it said that the step failed, crashed, or was killed.
        """
        self.stand_by()
        child = self._child
        assert child is not None
        self._running = True
        try:
            child.begin(folder)
            failure = _follow(child, on_progress, check, on_note)
        except BaseException:
            self.kill()
            raise
        finally:
            self._running = False
        if failure is not None:
            raise TrainerFailed(failure)

    def halt(self) -> None:
        """Stop the step where it is, if one runs, until `go_on`. From any thread."""
        if self._running:
            self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let the step go on, if it was stopped. From any thread."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        child = self._child
        if child is not None:
            child.send(number)

    def kill(self) -> None:
        """End the trainer at once, whatever it does, and return when it is gone and its step has closed its files."""
        if self._child is not None:
            self._child.kill()
        self._child = None


def start(nice: int, module: str) -> subprocess.Popen[str]:
    """Start a process that stands by, in a group of its own, for its steps.

    A Ctrl-C at the terminal is for the learner, which ends them itself.
    """
    starter = [sys.executable, "-m", "accrete_learner_service.trainer.starter", str(os.getpid()), str(nice), module]
    pipe, environment = subprocess.PIPE, with_large_pages()
    return subprocess.Popen(starter, stdin=pipe, stdout=pipe, stderr=pipe, text=True, process_group=0, env=environment)


class _Child:
    """One process that stands by, its pipes, which a step's process shares, and the threads that read them."""

    def __init__(self, nice: int, module: str) -> None:
        self.process = start(nice, module)
        self.lines: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._last_lines: deque[str] = deque(maxlen=_LAST_LINES)
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self._readers = [
            threading.Thread(target=self._read_stdout, args=(self.process.stdout,), daemon=True),
            threading.Thread(target=self._read_stderr, args=(self.process.stderr,), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def begin(self, folder: Path) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(f"{json.dumps(str(folder))}\n")  # a name may have a line feed
            self.process.stdin.flush()
        except BrokenPipeError:
            self.process.wait()
            raise TrainerFailed(self.exit_reason()) from None

    def exit_reason(self) -> str:
        """Return how it ended, for people."""
        code = self.process.wait()
        for reader in self._readers:
            reader.join(timeout=1)
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        last = f": {self._last_lines[-1]}" if self._last_lines else ""
        return f"the trainer {how}{last}"

    def send(self, number: signal.Signals) -> None:
        """Signal the process that stands by and its step."""
        if self.alive:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)

    def kill(self) -> None:
        self.send(signal.SIGKILL)
        self.process.wait()
        for reader in self._readers:
            # They read until the step's process has closed its files, too, which at the lowest priority takes a while.
            reader.join(timeout=_GONE_S)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            _close(pipe)

    def _read_stdout(self, stdout: IO[str]) -> None:
        for text in stdout:
            try:
                self.lines.put(dict(json.loads(text)))
            except ValueError:
                log.info("trainer.output", extra=fields(text=text.rstrip()))
        self.lines.put(None)

    def _read_stderr(self, stderr: IO[str]) -> None:
        for text in stderr:
            self._last_lines.append(text.strip())
            log.info("trainer.log", extra=fields(text=text.rstrip()))


def _follow(
    child: _Child,
    on_progress: Callable[[Progress], None],
    check: Callable[[], None],
    on_note: Callable[[str], None],
) -> str | None:
    """Read what is said of the step until it is done, and return why if it failed instead.

    Its files are written by then.
    """
    share = _ProcessorShare()
    while True:
        check()
        share.look(on_note)
        try:
            message = child.lines.get(timeout=CHECK_S)
        except queue.Empty:
            continue
        if message is None:
            return child.exit_reason()
        if message.get("stage") == "begun":
            log.info("trainer.begun", extra=fields(pid=message.get("pid")))
            share = _ProcessorShare(message.get("pid"))
        elif message.get("stage") == "done":
            return None
        elif message.get("stage") == "error":
            return str(message.get("reason", ""))
        elif message.get("stage") == "note":
            on_note(str(message.get("text", "")))
        elif "total" in message:
            on_progress(_progress(message))


class _ProcessorShare:
    """Says when a step's process gets next to no processor time, for then it takes for ever, and nothing shows why."""

    def __init__(self, pid: int | None = None) -> None:
        self._pid = pid
        self._from_s = time.monotonic()
        self._used_s = 0.0

    def look(self, on_note: Callable[[str], None]) -> None:
        """Look whether it had some, over a while."""
        elapsed = time.monotonic() - self._from_s
        if self._pid is None or elapsed < STARVED_S:
            return
        used = _processor_seconds(self._pid)
        if used is not None and used - self._used_s < _STARVED_SHARE * elapsed:
            log.warning("trainer.starved", extra=fields(pid=self._pid, seconds=round(elapsed)))
            on_note(f"it had {used - self._used_s:.1f} s of processor time in {elapsed:.0f} s: other processes take it")
        self._from_s, self._used_s = time.monotonic(), used or 0.0


def _processor_seconds(pid: int) -> float | None:
    """Return the processor time that a process has used; None where it cannot be told (proc_pid_stat(5))."""
    try:
        values = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(values[11]) + int(values[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None


def _progress(message: dict[str, Any]) -> Progress:
    loss = message.get("loss")
    return Progress(
        stage=str(message.get("stage", "")),
        done=int(message.get("done", 0)),
        total=int(message["total"]),
        loss=None if loss is None else float(loss),
    )


def _close(pipe: IO[str] | None) -> None:
    if pipe is not None:
        try:
            pipe.close()
        except BrokenPipeError:
            return  # what was buffered for the dead child goes with it
