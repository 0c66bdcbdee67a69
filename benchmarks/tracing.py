"""What a process and its children reach and write, seen with strace where it is there."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

_CALLS = "connect,sendto,sendmsg,sendmmsg,openat,open,creat,mkdir,mkdirat,rename,renameat,renameat2,link,linkat,symlink"
_PLACES = re.compile(r'<((?:/|socket:)[^>]*)>|"((?:[^"\\]|\\.)*)"')
_WRITES = re.compile(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC|^(?:creat|mkdir|rename|link|symlink)")
_TARGET = re.compile(r'sin6?_port=htons\((\d+)\).*?(?:inet_addr\("([0-9.]+)"\)|"([0-9a-f:.]+)")')
_NAMES_PORT = "53"
_EVERYBODYS = ("/dev/null", "/dev/tty", "/dev/pts", "/proc", "/dev/nvidia")
"""The terminal, and what is no file: written to by everybody."""


def can_trace() -> bool:
    """Return whether strace is there and may trace."""
    command = shutil.which("strace")
    return (
        command is not None and subprocess.run([command, "-qq", "-o", "/dev/null", "true"], check=False).returncode == 0
    )


def traced(command: Sequence[str], trace: Path) -> list[str]:
    """Return a command that runs `command`, and writes into `trace` what it and its children reach and write."""
    return [
        "strace",
        "-D",
        "-f",
        "-qq",
        "-y",
        "--seccomp-bpf",
        "-s",
        "300",
        "-e",
        f"trace={_CALLS}",
        "-o",
        str(trace),
        *command,
    ]


def reached(trace: Path) -> set[str]:
    """Return the addresses "HOST:PORT" of networks that a connection or a datagram went to.

    This machine's own are left out, but for questions after names: whoever answers them here asks others.
    """
    found = set()
    for call in _calls(trace):
        if call.startswith(("connect", "send")) and (target := _TARGET.search(call)):
            port, host = target[1], target[2] or target[3]
            own = host.startswith("127.") or host in ("::1", "::ffff:127.0.0.1")
            if not own or port == _NAMES_PORT:
                found.add(f"{host}:{port}")
    return found


def elsewhere(trace: Path, *own: Path) -> set[Path]:
    """Return what was written outside some folders, terminals aside, and bytecode, which Python keeps by modules."""
    found = {path for path in written(trace) if path.is_absolute() and "__pycache__" not in path.parts}
    return {
        path
        for path in found
        if not str(path).startswith(_EVERYBODYS) and not any(folder in (path, *path.parents) for folder in own)
    }


def written(trace: Path) -> set[Path]:
    """Return the files and folders that were made, opened for writing, or renamed to, and where that succeeded."""
    found = set()
    for call in _calls(trace):
        if _WRITES.search(call) and " = -1 " not in call and not call.startswith(("connect", "send")):
            found.add(_last_path(call))
    return found


def _calls(trace: Path) -> list[str]:
    return [line.split(maxsplit=1)[1] for line in trace.read_text(errors="replace").splitlines() if "(" in line]


def _last_path(call: str) -> Path:
    """Return the last path among a call's arguments, below the folder whose descriptor stands before it."""
    folder, path = "", ""
    for descriptor, text in _PLACES.findall(call.rpartition(" = ")[0]):
        folder, path = (descriptor, path) if descriptor else (folder, text)
    return Path(folder) / path
