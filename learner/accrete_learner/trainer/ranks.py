"""The processes of a step that has several ranks: the step's own is the first, and forks the others on its machine.

A rank may as well be started on another machine, by `run_rank`, where the step's folder is the same one.
"""

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch

from accrete_kit.parent_death import end_with_parent
from accrete_learner.progress import Note, Progress
from accrete_learner.rank_count import check_ranks
from accrete_learner.ranks.joining import joined
from accrete_learner.ranks.local_exchange import LocalExchange
from accrete_learner.trainer.job import Job
from accrete_learner.trainer.run_job import run_job
from accrete_learner.training.precision import resolve_device, resolve_threads, use_threads

log = logging.getLogger(__name__)

_LOOPBACK = "127.0.0.1"
#: Seconds in which a rank that was lost has been noticed by itself, when this one fails.
_NOTICED_S = 1.0


def run_rank(
    folder: Path,
    *,
    rank: int,
    size: int,
    address: str,
    threads: int = 0,
    gpu: int = 0,
    progress: Progress = lambda *_: None,
    note: Note = lambda text: None,
    listener: socket.socket | None = None,
    local: LocalExchange | None = None,
) -> None:
    """Do one rank's part of the step in `folder`, of which the first rank writes the outcome.

    Args:
        folder: the step's; the module `job` says what it holds. Each rank reads it.
        rank: 0 to size - 1, another for each.
        size: ranks in all.
        address: host and port at which the first rank listens.
        threads: that this rank computes on; 0 for all cores.
        gpu: that this rank computes on, where there are any, of those that its process may use.
        progress: called with the stage, how much of it is done, of how much, and the loss.
        note: called with what people should know of the step, a sentence.
        listener: the first rank's, if it listens there already.
        local: what was made for all ranks, if all run on this machine.

    Raises:
        Exception: as `run_job` does, and RuntimeError when another rank is lost.
    """
    job = Job.read(folder)
    use_threads(threads)
    if resolve_device(job.training.device).type == "cuda":
        torch.cuda.set_device(gpu)
    with joined(rank, size, address, listener=listener, local=local) as group:
        run_job(folder, job, progress, note=note, group=group)


def run_ranks(folder: Path, job: Job, progress: Progress, note: Note, lost: Callable[[str], None]) -> None:
    """Run a step by as many ranks on this machine as it asks for.

    This process must have no second thread yet, as it forks.

    Args:
        folder: the step's.
        job: as read from it.
        progress: called by the first rank.
        note: likewise.
        lost: called, on a thread of its own, with the reason when another rank has ended before its time. This process
            then ends at once, whatever it computes.

    Raises:
        Exception: as `run_rank` does.
    """
    size = job.training.ranks
    # The interface is that of the address; gloo would take the one that the host's name stands for.
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo" if sys.platform == "linux" else "lo0")
    listener = socket.create_server((_LOOPBACK, 0))
    address = f"{_LOOPBACK}:{listener.getsockname()[1]}"
    threads = max(1, resolve_threads(job.training.threads) // size)
    local = LocalExchange(size)

    def run_other(rank: int) -> None:
        listener.close()
        run_rank(folder, rank=rank, size=size, address=address, threads=threads, gpu=rank, local=local)

    with _others(size, run_other, lost):
        gpus = torch.cuda.device_count() if resolve_device(job.training.device).type == "cuda" else 0
        check_ranks(job.training, gpus)
        run_rank(
            folder,
            rank=0,
            size=size,
            address=address,
            threads=threads,
            progress=progress,
            note=note,
            listener=listener,
            local=local,
        )


@contextmanager
def _others(size: int, run: Callable[[int], None], lost: Callable[[str], None]) -> Iterator[None]:
    """Fork a process for each rank but the first. They live as long as this one at most."""
    ranks = {}
    for rank in range(1, size):
        reason, told = os.pipe()
        here, child = os.getpid(), os.fork()
        if not child:
            os.close(reason)
            _run_other(partial(run, rank), told, here)
        os.close(told)
        ranks[rank] = (child, reason)
    ended = threading.Lock()

    def watch(rank: int) -> None:
        child, reason = ranks[rank]
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        with open(reason, encoding="utf-8") as file:
            text = file.read()
        # Who comes first says how the step ended, and nobody after it.
        if code and ended.acquire(blocking=False):
            how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            lost(text or f"rank {rank} of training.ranks = {size} {how}")
            os._exit(0)

    for rank in ranks:
        threading.Thread(target=watch, args=(rank,), daemon=True).start()
    try:
        yield
    except RuntimeError:
        # Most likely it is another rank that was lost, and that tells more.
        threading.Event().wait(_NOTICED_S)
        raise
    finally:
        ended.acquire()


def _run_other(run: Callable[[], None], told: int, parent: int) -> None:
    """Run a rank in its forked process, and end it."""
    status = 1
    try:
        end_with_parent(parent, by=signal.SIGKILL)
        run()
        status = 0
    except Exception as error:
        log.exception("a rank failed")
        if isinstance(error, ValueError | OSError):
            os.write(told, str(error).encode())
    finally:
        sys.stderr.flush()
        os._exit(status)
