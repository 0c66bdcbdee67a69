"""How much faster two ranks, on a core each, train than one on one core: ResNet-32, batches of 128.

Both are the learner's own loop, by turns, so that a noisy machine is noisy for both. Both processes stand by, each
bound to its core; while one trains alone, the other waits and computes nothing. In a third turn each trains by itself,
in batches half as large, and tells the other nothing: what two cores of this machine give at most.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from dataclasses import dataclass

import torch

from accrete_kit.parent_death import end_with_parent
from accrete_learner.augmentation import augment
from accrete_learner.losses import CrossEntropy, LessForget, MarginRanking, Term
from accrete_learner.ranks import ALONE, Group
from accrete_learner.ranks.joining import joined
from accrete_learner.ranks.local_exchange import LocalExchange
from accrete_learner.training.loop import TrainingSet, train
from accrete_learner.training.precision import resolve_precision
from accrete_learner.training.schedule import Schedule
from benchmarks.lone_step import images
from benchmarks.report import Row, arguments, machine, median_row, show
from benchmarks.training import BATCH, CLASSES, networks

RANKS = 2


@dataclass(frozen=True)
class Turn:
    """One epoch."""

    images_per_second: float
    processor_ms: float
    """Of all ranks together, per image."""


class Loop:
    """A training that goes on from turn to turn."""

    def __init__(self, group: Group, batches: int, precision: str, *, teacher: bool, batch: int = BATCH) -> None:
        self._group = group
        self._batch = batch
        self._network, self._teacher = networks(precision, teacher=teacher)
        x, y = images(batches * batch, CLASSES)
        self._data = TrainingSet(x=x, y=y, fresh=torch.ones(len(y), dtype=torch.bool))
        self._terms: tuple[Term, ...] = (CrossEntropy(),)
        if teacher:
            self._terms += (LessForget(), MarginRanking())

    def turn(self) -> Turn:
        """Train for an epoch."""
        started, used = time.perf_counter(), time.process_time()
        train(
            self._network,
            self._data,
            self._terms,
            Schedule(epochs=1, learning_rate=0.1, batch_size=self._batch),
            augmentation=augment.build("auto"),
            generator=torch.Generator().manual_seed(1),
            report=lambda *_: None,
            teacher=self._teacher,
            group=self._group,
        )
        seconds = time.perf_counter() - started
        processor = torch.tensor([time.process_time() - used])
        self._group.add_up(processor)
        return Turn(len(self._data) / seconds, 1000 * float(processor) / len(self._data))


def measured(
    group: Group, rounds: int, batches: int, precision: str, *, teacher: bool
) -> list[tuple[Turn, Turn, Turn]]:
    """Return the turns of one rank, of two, and of two apart, round by round, on the first rank; none on the other."""
    one = Loop(ALONE, batches, precision, teacher=teacher) if group.rank == 0 else None
    two = Loop(group, batches, precision, teacher=teacher)
    half = Loop(ALONE, batches, precision, teacher=teacher, batch=BATCH // group.size)
    turns: list[tuple[Turn, Turn, Turn]] = []
    for number in range(rounds + 1):
        turn = None if one is None else one.turn()
        group.agreed(None)  # the other rank waits here
        both = two.turn()
        group.agreed(None)
        own = half.turn()
        speeds = group.rows(torch.tensor([own.images_per_second, own.processor_ms]))
        apart = Turn(group.size * float(speeds[:, 0].min()), float(speeds[:, 1].mean()))
        if turn is not None and number:  # the first round allocates
            turns.append((turn, both, apart))
    return turns


def rows_of(group: Group, rounds: int, batches: int) -> list[Row]:
    """Measure with and without a teacher, in the precision that a step takes by itself and in float32."""
    rows: list[Row] = []
    fast = resolve_precision("auto", torch.device("cpu"))
    for precision, teacher in dict.fromkeys([(fast, False), ("float32", False), (fast, True)]):
        turns = measured(group, rounds, batches, precision, teacher=teacher)
        if not turns:
            continue
        what = f"{precision}, LUCIR's loss" if teacher else precision
        faster = [both.images_per_second / alone.images_per_second for alone, both, _ in turns]
        most = [apart.images_per_second / alone.images_per_second for alone, _, apart in turns]
        costs = [both.processor_ms / alone.processor_ms for alone, both, _ in turns]
        bare = [apart.processor_ms / alone.processor_ms for alone, _, apart in turns]
        rows += [
            median_row(f"two ranks over one, {what}", faster, "times", ">= 1.7"),
            median_row(f"two that tell each other nothing over one, {what}", most, "times"),
            median_row(f"processor time per image, two ranks over one, {what}", costs, "times"),
            median_row(f"processor time per image, two that tell each other nothing, {what}", bare, "times"),
            median_row(f"one rank on one core, {what}", [one.images_per_second for one, _, _ in turns], "images/s"),
            median_row(f"two ranks on a core each, {what}", [two.images_per_second for _, two, _ in turns], "images/s"),
        ]
    return rows


def main() -> None:
    """Run the benchmark."""
    parsed = arguments(__doc__ or "").parse_args()
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < RANKS:
        raise SystemExit(f"{len(cores)} core here: two ranks need two")
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    listener = socket.create_server(("127.0.0.1", 0))
    address, here = f"127.0.0.1:{listener.getsockname()[1]}", os.getpid()
    local = LocalExchange(RANKS)
    rank = 0 if os.fork() else 1
    if rank:
        end_with_parent(here, by=signal.SIGKILL)
        listener.close()
    else:
        found = machine()
    os.sched_setaffinity(0, {cores[rank]})
    torch.set_num_threads(1)
    with joined(rank, RANKS, address, listener=None if rank else listener, local=local) as group:
        rows = rows_of(group, rounds=5 if parsed.short else 11, batches=3 if parsed.short else 10)
    if not rank:
        show(rows, {**found, "load_after": os.getloadavg()[0]}, parsed.json)


if __name__ == "__main__":
    main()
