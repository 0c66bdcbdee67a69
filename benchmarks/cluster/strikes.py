"""What strikes a cluster. Each strike returns when its harm is over, and says when it began."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.cluster.machines import Machine
from benchmarks.cluster.place import LEARN, SERVE, TRAIN, Place
from benchmarks.waiting import until

POINTS = tuple(
    f"{write}.{side}"
    for write in ("artifact", "upload", "stage", "commit", "retire", "remove")
    for side in ("before", "after")
)
"""The moments of a commit at which the learner's node is lost."""
RANK = "rank in a step"
RANKS: Mapping[str, int] = {RANK: 2}
"""The kinds for which a step has several ranks, and how many."""


@dataclass(frozen=True, kw_only=True)
class Struck:
    """What a strike was."""

    began: float
    """By `time.monotonic`."""
    what: str
    """More exactly."""


@dataclass(frozen=True, kw_only=True)
class Moment:
    """What a strike may choose by."""

    chance: random.Random
    round: int
    """From 0."""
    away_s: float
    """How long what comes back is away."""


Strike = Callable[[Place, Moment], Struck]


def server(place: Place, moment: Moment) -> Struck:
    """SIGKILL of a server's process."""
    return _kill(moment.chance.choice(_some(place, SERVE)))


def learner(place: Place, moment: Moment) -> Struck:
    """SIGKILL of the process of the learner that has the lease."""
    return _kill(until(lambda: _leader(place).pids(LEARN), "the learner")[0])


def replica(place: Place, moment: Moment) -> Struck:
    """SIGKILL of the actor that a server is the child of."""
    return _kill(_parent(moment.chance.choice(_some(place, SERVE))))


def node(place: Place, moment: Moment) -> Struck:
    """A node with a server loses power, and another is added."""
    return _lose(place, place.machine_of(moment.chance.choice(_some(place, SERVE))), "with a server")


def learner_node(place: Place, moment: Moment) -> Struck:
    """The node of the learner that has the lease loses power in the middle of a commit, and another is added."""
    point = POINTS[moment.round % len(POINTS)]
    place.failpoints.write_text(f"{point}=stop", encoding="utf-8")
    try:
        stopped = until(lambda: [pid for pid in place.processes(LEARN) if _is_stopped(pid)], point, seconds=120)
    finally:
        place.failpoints.unlink()
    return _lose(place, place.machine_of(stopped[0]), f"at {point}")


def rank(place: Place, moment: Moment) -> Struck:
    """SIGKILL of the second rank of a step, some part of a second after it began."""

    def found() -> list[int]:
        begun = _second_ranks(_leader(place))
        if begun:
            time.sleep(moment.chance.random())
        return [pid for pid in _second_ranks(_leader(place)) if pid in begun]

    return _kill(until(found, "a step of several ranks", seconds=120)[0])


def head_process(place: Place, moment: Moment) -> Struck:
    """The process of Ray's head (GCS) is away for a while."""
    (pid,) = place.head.pids("gcs_server ") or place.head.pids("gcs_server")[:1]
    entry = Path(f"/proc/{pid}")
    command = [part.decode() for part in (entry / "cmdline").read_bytes().split(b"\0")[:-1]]
    pairs = (part.decode().partition("=") for part in (entry / "environ").read_bytes().split(b"\0") if part)
    environment = {name: value for name, _, value in pairs}
    struck = _kill(pid)
    time.sleep(moment.away_s)
    place.head.start(command, environment)
    return struck


def head_machine(place: Place, moment: Moment) -> Struck:
    """The machine of Ray's head is without power for a while."""
    struck = Struck(began=time.monotonic(), what=place.head.name)
    place.head.turn_off()
    time.sleep(moment.away_s)
    place.head.turn_on()
    place.start_head()
    return struck


def bucket(place: Place, moment: Moment) -> Struck:
    """The bucket is away for a while."""
    struck = Struck(began=time.monotonic(), what="rclone")
    place.bucket.kill()
    time.sleep(moment.away_s)
    place.bucket.start()
    return struck


def upgrade(place: Place, moment: Moment) -> Struck:
    """A setting changes, and with it every server: a rolling upgrade."""
    struck = Struck(began=time.monotonic(), what="server.max_watchers")
    place.upgrade()
    return struck


def partition(place: Place, moment: Moment) -> Struck:
    """The node of the learner that has the lease and another one do not reach each other for a while."""
    first = _leader(place)
    others = [one for one in place.nodes if one is not first]
    second = moment.chance.choice([one for one in others if one.pids(LEARN)] or others)
    return _cut(place, first, [second], moment.away_s)


def partition_from_head(place: Place, moment: Moment) -> Struck:
    """The same node and Ray's head do not reach each other for so long that Ray gives the node up."""
    return _cut(place, _leader(place), [place.head], 3 * moment.away_s)


def cut_off(place: Place, moment: Moment) -> Struck:
    """The same node reaches nothing for a while: no node, no head, no store, no bucket, no caller."""
    first = _leader(place)
    others = [one for one in (place.head, *place.nodes) if one is not first]
    return _cut(place, first, others, moment.away_s, alone=True)


STRIKES: Mapping[str, Strike] = {
    "server process": server,
    "learner process": learner,
    "replica actor": replica,
    RANK: rank,
    "node": node,
    "learner's node in a commit": learner_node,
    "Ray's head, its process": head_process,
    "Ray's head, its machine": head_machine,
    "bucket": bucket,
    "rolling upgrade": upgrade,
    "partition of two nodes": partition,
    "partition from Ray's head": partition_from_head,
    "node cut off": cut_off,
}


def tend(place: Place) -> None:
    """Start Ray on nodes where it has ended, as a service manager does: it ends where the head had given a node up."""
    for one in place.nodes:
        if one.on and not one.pids("/raylet ") and not one.pids("ray start"):
            with contextlib.suppress(RuntimeError):
                place.start_node(one)


def _leader(place: Place) -> Machine:
    found: Machine = until(place.leader, "a learner with the lease", seconds=120)
    return found


def _second_ranks(machine: Machine) -> list[int]:
    """Return the processes that a trainer's step forked: it is forked by the trainer itself."""
    trainers = machine.pids(TRAIN)
    found = []
    for pid in trainers:
        with contextlib.suppress(OSError):  # it has ended
            step = _parent(pid)
            if step in trainers and _parent(step) in trainers:
                found.append(pid)
    return found


def _some(place: Place, mark: str) -> list[int]:
    found: list[int] = until(partial(place.processes, mark), mark)
    return found


def _kill(pid: int) -> Struck:
    struck = Struck(began=time.monotonic(), what=f"pid {pid}")
    os.kill(pid, signal.SIGKILL)
    return struck


def _lose(place: Place, machine: Machine, what: str) -> Struck:
    struck = Struck(began=time.monotonic(), what=f"{machine.name} {what}")
    place.remove(machine)
    place.add_node()
    return struck


def _cut(place: Place, machine: Machine, others: list[Machine], seconds: float, *, alone: bool = False) -> Struck:
    addresses = [one.address for one in others] + ([place.network.host] if alone else [])
    struck = Struck(began=time.monotonic(), what=f"{machine.name} from {', '.join(one.name for one in others)}")
    machine.lose(*addresses)
    for other in others:
        other.lose(machine.address)
    try:
        time.sleep(seconds)
    finally:
        machine.find(*addresses)
        for other in others:
            other.find(machine.address)
    return struck


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _is_stopped(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    return False
