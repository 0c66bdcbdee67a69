"""The strikes: each does its harm, and answers what undoes it, which is called a while later."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import redis

from accrete_model.artifact_store import ArtifactStore
from accrete_storage.embedded.server import socket_path
from benchmarks.nemesis.proxy import Proxy
from benchmarks.node import Node

PROCESSES = ("trainer", "learner", "server", "store")
_CLOCK_STEP_S = 3_600
Undo = Callable[[], None]


class Missed(Exception):
    """There was nothing to strike at this moment."""


@dataclass(kw_only=True)
class Target:
    """What is struck."""

    node: Node
    proxy: Proxy
    chance: random.Random
    stop_s: float
    """How long a stopped process stays so, and the other harms that pass."""
    disk_mib: int
    """Size of the file system that the data directory has to itself; 0: it has none."""
    can_mount: bool
    clock: Path
    """Where the seconds stand by which the processes' wall clock is off; see `clock_environment`."""
    damaged: set[int] = field(default_factory=set)
    """Versions whose files were damaged for good."""
    mending: bool = False
    """Whether the newest version is damaged at present."""

    @property
    def versions(self) -> Path:
        """The folder of versions."""
        return self.node.data_dir / "versions"


def clock_environment(clock: Path) -> dict[str, str]:
    """Return what a node needs in its environment for `step_clock` to reach its processes."""
    path = os.pathsep.join(filter(None, (str(Path(__file__).parent / "clock"), os.environ.get("PYTHONPATH"))))
    return {"PYTHONPATH": path, "STEPPED_CLOCK": str(clock)}


def kill(target: Target, name: str) -> Undo:
    """SIGKILL."""
    os.kill(_pid(target, name), signal.SIGKILL)
    return _nothing


def stop(target: Target, name: str) -> Undo:
    """SIGSTOP, and SIGCONT afterwards: as a machine that swaps or a container that is frozen."""
    pid = _pid(target, name)
    os.kill(pid, signal.SIGSTOP)

    def go_on() -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    return go_on


def cut(target: Target) -> Undo:
    """Replies are lost, then all connections of the writers."""
    target.proxy.cut(0.2)
    return _nothing


def step_clock(target: Target) -> Undo:
    """Step the wall clock of our processes an hour one way, and back afterwards.

    What the store lets expire within an hour does so at once when the clock jumps forward.
    """
    seconds = target.chance.choice((-_CLOCK_STEP_S, _CLOCK_STEP_S))
    target.clock.write_text(str(seconds), encoding="ascii")
    if seconds > 0:
        with contextlib.suppress(redis.RedisError), _connection(target) as client:
            for key in client.scan_iter(count=1_000):
                if 0 < int(client.pttl(key)) <= 1_000 * _CLOCK_STEP_S:
                    client.delete(key)
    return lambda: target.clock.unlink(missing_ok=True)


def out_of_memory(target: Target) -> Undo:
    """Let the store use no more memory than it has."""

    def limit(value: str) -> None:
        # A store that is down meanwhile comes back with its own settings.
        with contextlib.suppress(redis.RedisError), _connection(target) as client:
            client.config_set("maxmemory", value)

    with contextlib.suppress(redis.RedisError), _connection(target) as client:
        client.config_set("maxmemory", str(max(1, int(client.info("memory")["used_memory"]) - 100_000)))
        return lambda: limit("0")
    raise Missed


def disk_full(target: Target) -> Undo:
    """Not a byte left where the data directory is."""
    if not target.disk_mib:
        raise Missed
    ballast = target.node.data_dir / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 16))
    with contextlib.suppress(OSError), ballast.open("ab", buffering=0) as file:
        while True:
            file.write(b"\0" * 512)
    return lambda: ballast.unlink(missing_ok=True)


def read_only(target: Target) -> Undo:
    """Nothing can be written to the folder of versions: remounted, since the rights of files do not bind root."""
    if not target.can_mount or not target.versions.is_dir() or _mounted(target.versions):
        raise Missed
    folder = str(target.versions)
    subprocess.run(["mount", "--bind", folder, folder], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
    return lambda: unmount(target.versions)


def damage_old(target: Target) -> Undo:
    """Turn a bit of an older version for good. It must never serve again."""
    numbers = [number for number in ArtifactStore(target.versions).list()[:-2] if number not in target.damaged]
    if not numbers:
        raise Missed
    number = target.chance.choice(numbers)
    target.damaged.add(number)
    _flip(target, ArtifactStore(target.versions).path(number))
    return _nothing


def damage_newest(target: Target) -> Undo:
    """Cut or change a file of the newest version for a while, as on a share that loses its server."""
    artifacts = ArtifactStore(target.versions)
    numbers = artifacts.list()
    if not numbers or target.mending:  # two at a time would keep the first one's damage as what was before
        raise Missed
    file, before = _flip(target, artifacts.path(numbers[-1]))
    target.mending = True

    def mend() -> None:
        # Perhaps on a disk that is full or a folder that is read-only until another strike passes.
        for _ in range(600):
            with contextlib.suppress(OSError):
                if file.exists():
                    file.write_bytes(before)
                break
            time.sleep(0.1)
        target.mending = False

    return mend


def unmount(folder: Path) -> None:
    """Harmless for a folder that nothing is mounted on."""
    while _mounted(folder):
        if subprocess.run(["umount", "-l", str(folder)], check=False, capture_output=True).returncode:
            return


def every_strike(target: Target) -> dict[str, Callable[[], Undo]]:
    """By name, all that can be done on this machine."""
    strikes: dict[str, Callable[[], Undo]] = {}
    for name in PROCESSES:
        strikes[f"kill {name}"] = lambda name=name: kill(target, name)  # type: ignore[misc]
        strikes[f"stop {name}"] = lambda name=name: stop(target, name)  # type: ignore[misc]
    strikes |= {
        "cut connections": lambda: cut(target),
        "wall clock stepped": lambda: step_clock(target),
        "store out of memory": lambda: out_of_memory(target),
        "older version damaged": lambda: damage_old(target),
        "newest version damaged": lambda: damage_newest(target),
    }
    if target.disk_mib:
        strikes["disk full"] = lambda: disk_full(target)
    if target.can_mount:
        strikes["versions read-only"] = lambda: read_only(target)
    return strikes


def _mounted(folder: Path) -> bool:
    """`os.path.ismount` does not see a folder that is mounted on itself."""
    points = (line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines())
    return str(folder.resolve()) in points


def _pid(target: Target, name: str) -> int:
    # Of the trainer, the process that trains, when one does.
    pid = (target.node.pid("step") if name == "trainer" else None) or target.node.pid(name)
    if pid is None:
        raise Missed
    return pid


def _connection(target: Target) -> redis.Redis:
    return redis.Redis(unix_socket_path=str(socket_path(target.node.data_dir)), socket_timeout=1.0)


def _flip(target: Target, folder: Path) -> tuple[Path, bytes]:
    """Change a file of a version, and return it and what it was."""
    try:
        file = target.chance.choice(sorted(one for one in folder.iterdir() if one.stat().st_size))
        before = file.read_bytes()
        changed = bytearray(before)
        changed[target.chance.randrange(len(changed))] ^= 1 << target.chance.randrange(8)
        file.write_bytes(changed if target.chance.random() < 0.5 else changed[: len(changed) // 2])
    except (OSError, IndexError) as error:  # a version that is being removed, or a folder that is read-only now
        raise Missed from error
    return file, before


def _nothing() -> None:
    pass
