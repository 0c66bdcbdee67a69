"""The ledger test: writers log what was acknowledged, a nemesis strikes, a checker holds the store against the log."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from accrete import AccreteError, Client
from accrete_storage.config import HoldoutConfig
from benchmarks.digits import scans_by_label
from benchmarks.nemesis import checker, strikes
from benchmarks.nemesis.callers import Answers, Example, ask, write
from benchmarks.nemesis.ledger import Ledger
from benchmarks.nemesis.proxy import Proxy
from benchmarks.node import Node, side_by_side
from benchmarks.report import Row, arguments, machine, show
from benchmarks.waiting import until

PER_CLASS = 5
_LABELS = 20
_WRITERS = 3
_PAUSE_S = 0.4
"""Of a writer between two batches: so few examples that some steps end between two strikes."""
_DISK_MIB = 96
_SETTLE_S = 240.0
_SETTINGS = {
    "trigger.min_examples": "4",
    "trigger.refresh_examples": "60",
    "trigger.max_wait_s": "2",
    "learner.lease_s": "3",
    "memory.size": str(PER_CLASS),
}


@dataclass(kw_only=True)
class Story:
    """What happened in a run."""

    strikes: Counter[str] = field(default_factory=Counter)
    answers: Answers = field(default_factory=Answers)
    settle_s: float = 0.0
    verdict: checker.Verdict = field(default_factory=checker.Verdict)
    sent: int = 0
    acknowledged: int = 0
    stored: int = 0
    learned: int = 0
    versions: int = 0
    left: int = 0


def main() -> None:
    """Run the benchmark. The exit status is 1 when something was lost, doubled or let through."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--strikes", type=int, metavar="N", help="how many (default: 200; with --short 20)")
    parser.add_argument("--seed", type=int, help="of the nemesis (default: drawn)")
    parsed = parser.parse_args()
    seed = random.randrange(2**31) if parsed.seed is None else parsed.seed
    count = parsed.strikes or (20 if parsed.short else 200)
    facts = machine() | {"seed": seed}
    with tempfile.TemporaryDirectory(prefix="accrete-faults-") as folder:
        story = run(
            Path(folder),
            seed=seed,
            count=count,
            stop_s=2.0 if parsed.short else 5.0,
            pace_s=1.5 if parsed.short else 4.5,
        )
    rows = tell(story)
    show(rows, facts, parsed.json)
    for name, times in sorted(story.strikes.items()):
        print(f"  {name:<24} {times}")
    print(f"  verdict: {story.verdict}")
    for failure in story.answers.failed[:5]:
        print(f"  failed: {failure}")
    raise SystemExit(any(row.ok is False for row in rows))


def run(folder: Path, *, seed: int, count: int, stop_s: float, pace_s: float = 1.5) -> Story:
    """Run a node under load and `count` strikes at most `pace_s` seconds apart, let it rest, and check it."""
    chance, story = random.Random(seed), Story()
    can_mount = _can_mount(folder)
    with _disk(folder / "data", can_mount) as disk_mib:
        clock = folder / "clock"
        node = Node(folder, settings=_SETTINGS, environment=strikes.clock_environment(clock))
        proxy = Proxy(node.port)
        node.start()
        ledger = Ledger(folder / "ledger.jsonl")
        target = strikes.Target(
            node=node, proxy=proxy, chance=chance, stop_s=stop_s, disk_mib=disk_mib, can_mount=can_mount, clock=clock
        )
        try:
            with node.ready():
                pass
            with _callers(node, proxy, ledger, story, seed):
                _strike(target, story, count, pace_s)
            _settle(node, story)
            _check(node, ledger, target, story)
        except BaseException:
            print(node.log()[-4_000:])
            raise
        finally:
            node.stop()
            strikes.unmount(target.versions)
            proxy.close()
            ledger.close()
    return story


def _strike(target: strikes.Target, story: Story, count: int, pace_s: float) -> None:
    """Strike at random moments. What passes is undone while the next ones come."""
    possible = strikes.every_strike(target)
    timers: list[threading.Timer] = []
    until(lambda: sum(story.answers.answered.values()) > 20, "the first version", seconds=120)
    while story.strikes.total() < count:
        time.sleep(target.chance.uniform(0.1, pace_s))
        name = target.chance.choice(sorted(possible))
        try:
            undo = possible[name]()
        except strikes.Missed:
            continue
        story.strikes[name] += 1
        # A full disk or a folder that cannot be written is not to last through many other strikes.
        timers.append(threading.Timer(target.chance.uniform(0.5, 1.0) * target.stop_s, undo))
        timers[-1].start()
    for timer in timers:
        timer.join()


@contextmanager
def _callers(node: Node, proxy: Proxy, ledger: Ledger, story: Story, seed: int) -> Iterator[None]:
    """Writers through the proxy and a reader past it, until the block ends; then the writers' last batch is out."""
    address = f"127.0.0.1:{proxy.port}"
    through, past = partial(Client, address, timeout=10), partial(Client, node.address, timeout=30)
    writers = [
        partial(write, through, _batches(number, seed), ledger, story.answers, pause_s=_PAUSE_S)
        for number in range(_WRITERS)
    ]
    with side_by_side(*writers, partial(ask, past, scans_by_label()["0"][0], story.answers)):
        yield


def _batches(number: int, seed: int) -> Iterator[list[Example]]:
    """Noisy scans under ever new ids."""
    generator, scans, made = np.random.default_rng([seed, number]), scans_by_label(), 0
    while True:
        batch = []
        for _ in range(int(generator.integers(1, 8))):
            digit, twin = int(generator.integers(10)), int(generator.integers(_LABELS // 10))
            own = scans[str(digit)]
            image = own[int(generator.integers(len(own)))] ^ generator.integers(0, 8, (8, 8), dtype=np.uint8)
            made += 1
            batch.append((f"{digit}{'ab'[twin]}", image, f"w{number}-{made}"))
        yield batch


def _settle(node: Node, story: Story) -> None:
    """Until nothing is pending: by itself, with an operator's `trigger` for what was set aside or is too little."""
    started = time.monotonic()
    with node.client() as client:
        while (left := _pending(client)) and time.monotonic() - started < _SETTLE_S:
            with contextlib.suppress(AccreteError):
                client.trigger_step()
            time.sleep(0.5)
    story.settle_s, story.left = time.monotonic() - started, left


def _pending(client: Client) -> int:
    """-1: nobody knows, since the server or its store is away."""
    try:
        status = client.status()
    except AccreteError:
        return -1
    return status.pending if status.store_alive else -1


def _check(node: Node, ledger: Ledger, target: strikes.Target, story: Story) -> None:
    with node.store() as store:
        found = checker.read(store, ledger.sent)
    answered = [version for version in story.answers.answered if version]
    story.verdict = checker.check(ledger, found, per_class=PER_CLASS, holdout=HoldoutConfig(), answered=answered)
    story.verdict.unreadable = checker.check_files(target.versions, found.records, target.damaged)
    made = [record for record in found.records if record.state != "rejected"]
    story.sent, story.acknowledged, story.stored = len(ledger.sent), len(ledger.acknowledged), len(found.located)
    story.learned, story.versions = sum(sum(record.consumed.values()) for record in made), len(made)


def tell(story: Story) -> list[Row]:
    """Return the figures, with what they must be."""
    verdict = story.verdict
    skipped = sum(-count for count in verdict.miscounted.values() if count < 0)
    doubled = sum(count for count in verdict.miscounted.values() if count > 0) + len(verdict.relearned)
    return [
        Row(name="strikes", value=story.strikes.total(), unit=""),
        Row(name="sent", value=story.sent, unit="examples"),
        Row(name="acknowledged", value=story.acknowledged, unit="examples"),
        Row(name="stored", value=story.stored, unit="examples"),
        Row(name="learned", value=story.learned, unit="examples"),
        Row(name="versions made", value=story.versions, unit=""),
        Row(name="lost: acknowledged and not stored", value=len(verdict.lost), unit="examples", bound="<= 0"),
        Row(name="stored and never sent, or refused", value=len(verdict.foreign), unit="examples", bound="<= 0"),
        Row(name="doubled: learned more than once", value=doubled, unit="examples", bound="<= 0"),
        Row(name="skipped: passed over by a step", value=skipped, unit="examples", bound="<= 0"),
        Row(name="not learned when all was calm again", value=story.left, unit="examples", bound="<= 0"),
        Row(name="classes with a wrong number of exemplars", value=len(verdict.overfull), unit="", bound="<= 0"),
        Row(name="hold-out mixed with exemplars", value=len(verdict.leaked), unit="examples", bound="<= 0"),
        Row(name="versions that fail their checksum", value=len(verdict.unreadable), unit="", bound="<= 0"),
        Row(
            name="versions that answered and were never made",
            value=len(verdict.unknown_versions),
            unit="",
            bound="<= 0",
        ),
        Row(name="predictions", value=story.answers.answered.total(), unit=""),
        Row(name="predictions failed after the SDK's retries", value=len(story.answers.failed), unit="", bound="<= 0"),
        Row(name="calm until everything was learned", value=story.settle_s, unit="s"),
    ]


def _can_mount(folder: Path) -> bool:
    """Return whether this process may mount (root in its own machine or container)."""
    if os.getuid() != 0:
        return False
    probe = folder / "probe"
    probe.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(probe)], check=False, capture_output=True
    )
    strikes.unmount(probe)
    probe.rmdir()
    return done.returncode == 0


@contextmanager
def _disk(folder: Path, can_mount: bool) -> Iterator[int]:
    """Yield the size in MiB of a small file system for the data directory, 0 where none can be mounted."""
    folder.mkdir()
    if not can_mount:
        yield 0
        return
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_DISK_MIB}m", "tmpfs", str(folder)], check=True)
    try:
        yield _DISK_MIB
    finally:
        strikes.unmount(folder)


if __name__ == "__main__":
    main()
