"""Machines made of the kernel's namespaces: each has processes, an address and a disk of its own, and can lose them.

A machine is all that runs in a namespace of processes. When the first of them is killed, the kernel ends all others at
once, as a power cut does. This takes root on Linux.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.node import descendants
from benchmarks.waiting import until

_NETWORK = "10.77.{}"
"""Of addresses; the host has number 1."""
_NOWHERE = "02:00:00:00:00:fe"
"""An address of hardware that nobody has: what is sent there is lost without a word, as in a partition."""
_RAY = Path("/tmp/ray")
"""Where Ray keeps its files. Each machine has a folder of its own mounted there."""
_ENDS_WITH_US = ("setpriv", "--pdeathsig", "KILL")
"""With the thread that starts it."""
_INIT = """
mount --make-rprivate /
{mounts}
mount -t proc proc /proc
echo {name} >/proc/sys/kernel/hostname
ip link set lo up
sleep infinity & wait
"""
"""Runs as the first process; bash takes in what others leave behind."""


class Network:
    """A bridge, on which this machine itself is the host."""

    def __init__(self) -> None:
        """Make it."""
        taken = subprocess.run(["ip", "-br", "addr"], capture_output=True, text=True, check=True).stdout
        number = next(number for number in range(1, 255) if f" {_NETWORK.format(number)}." not in taken)
        self.name = f"acb{os.getpid() % 10_000_000}"
        self._prefix = _NETWORK.format(number)
        self._taken = itertools.count(11)
        self.host = f"{self._prefix}.1"
        _ip("link", "add", self.name, "type", "bridge")
        _ip("addr", "add", f"{self.host}/24", "dev", self.name)
        _ip("link", "set", self.name, "up")

    def address(self) -> str:
        """Return an address that no machine had before."""
        return f"{self._prefix}.{next(self._taken)}"

    def close(self) -> None:
        """Remove it."""
        _ip("link", "del", self.name)


class Machine:
    """A machine on the network."""

    def __init__(self, network: Network, folder: Path, mounts: Mapping[Path, str], environment: Mapping[str, str]):
        """Make it, and turn it on.

        Args:
            network: what it is on.
            folder: what is its own of this machine's disk; made here.
            mounts: by path, which part of `folder` the machine has there. The path is made where it is none.
            environment: of all that runs there, beside this process's.
        """
        self.address = network.address()
        self.name = f"machine-{self.address.rpartition('.')[2]}"
        self.folder = folder
        self._network = network
        self._environment = os.environ | environment
        self._mounts = {_RAY: folder / "ray"} | {path: folder / part for path, part in mounts.items()}
        for path, own in self._mounts.items():
            path.mkdir(parents=True, exist_ok=True)
            own.mkdir(parents=True, exist_ok=True)
        # Nobody answers for names on this network, and whoever asks waits for long.
        (folder / "hosts").write_text(f"127.0.0.1 localhost\n{self.address} {self.name}\n")
        (folder / "resolv.conf").touch()
        self._mounts |= {Path("/etc") / name: folder / name for name in ("hosts", "resolv.conf")}
        self.turn_on()

    def turn_on(self) -> None:
        """Turn it on: nothing runs there yet, and its disk is as it was."""
        self._started: list[subprocess.Popen[bytes]] = []
        mounts = "\n".join(f"mount --bind {own} {path}" for path, own in self._mounts.items())
        self._holder = subprocess.Popen(
            [*_ENDS_WITH_US, "unshare", "--net", "--uts", "--mount", "--pid", "--fork", "--kill-child", "bash", "-c"]
            + [_INIT.format(name=self.name, mounts=mounts)],
            stdin=subprocess.DEVNULL,
        )
        children = Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children")
        self._first = int(until(children.read_text, "the first process of a machine"))
        self._namespace = os.readlink(f"/proc/{self._first}/ns/pid")
        # Its last act before it waits: the namespaces are whole then.
        until(lambda: "sleep" in "".join(descendants(self._first).values()), "what the first process starts")
        inside, outside = f"aci{self._first}", f"aco{self._first}"
        _ip("link", "add", outside, "type", "veth", "peer", "name", inside)
        _ip("link", "set", outside, "master", self._network.name, "up")
        _ip("link", "set", inside, "netns", str(self._first), "name", "eth0")
        self._net("addr", "add", f"{self.address}/24", "dev", "eth0")
        self._net("link", "set", "eth0", "up")
        # Programs find out their own address by asking which way leads out. The host passes nothing on.
        self._net("route", "add", "default", "via", self._network.host)

    @property
    def on(self) -> bool:
        """Whether it runs."""
        return self._holder.poll() is None

    def pids(self, mark: str = "") -> list[int]:
        """Return the processes whose command line has `mark`, as this machine numbers them."""
        return sorted(pid for pid, line in self._running().items() if mark in line)

    def run(self, command: Sequence[str], *, timeout_s: float = 180.0) -> str:
        """Run a command there and return what it said.

        Raises:
            RuntimeError: it failed.
        """
        done = subprocess.run(
            self.command(command),
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{command} at {self.address}: {done.stdout[-3_000:]}{done.stderr[:3_000]}")
        return done.stdout

    def start(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        """Start a command there, which goes on by itself; its output is in the machine's folder."""
        with (self.folder / "output.log").open("ab") as log:
            self._started.append(
                subprocess.Popen(
                    self.command(command),
                    env=self._environment if environment is None else environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            )

    def command(self, command: Sequence[str]) -> list[str]:
        """Return the command that runs `command` there."""
        return ["nsenter", "-t", str(self._first), "--net", "--uts", "--mount", "--pid", "--", *command]

    def lose(self, *others: str) -> None:
        """Lose all that is sent to these addresses from now on."""
        for other in others:
            self._net("neigh", "replace", other, "lladdr", _NOWHERE, "dev", "eth0", "nud", "permanent")

    def find(self, *others: str) -> None:
        """Reach them again."""
        for other in others:
            with contextlib.suppress(RuntimeError):  # it was turned off meanwhile
                self._net("neigh", "del", other, "dev", "eth0")

    def turn_off(self) -> None:
        """Lose power: all that runs there ends at once."""
        self._holder.kill()
        for process in (self._holder, *self._started):
            process.wait()

    def _running(self) -> dict[int, str]:
        """Command lines of all that runs there, whoever began it."""
        found = {}
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and os.readlink(entry / "ns/pid") == self._namespace:
                    found[int(entry.name)] = (
                        (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    )
        return found

    def _net(self, *arguments: str) -> None:
        _call("nsenter", "-t", str(self._first), "--net", "--", "ip", *arguments)


def can_be_made() -> bool:
    """Return whether this process may make machines."""
    if any(shutil.which(program) is None for program in ("ip", "unshare", "nsenter", "setpriv", "bash")):
        return False
    return not subprocess.run(
        ["unshare", "--net", "--uts", "--mount", "--pid", "--fork", "true"], capture_output=True
    ).returncode


def _ip(*arguments: str) -> None:
    _call("ip", *arguments)


def _call(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
