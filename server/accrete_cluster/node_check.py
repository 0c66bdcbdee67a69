"""What is looked at on each node before anything starts there."""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import socket
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from accrete_cluster.priority import as_the_raylet
from accrete_cluster.spec import Spec, on_node, software
from accrete_kit.addresses import is_loopback
from accrete_node.libraries import check_bucket, check_learning, check_serving
from accrete_node.settings import Settings, SettingsError
from accrete_server.access.config import check_exposure
from accrete_storage.errors import StorageError, StoreUnavailable
from accrete_storage.store import Store

MARK = Path("cluster") / "mark"
"""File in a shared data directory by which nodes know that it is the same one."""
CLOCK_S = 2.0
"""Seconds that a node's clock and the store's may be apart before it is told."""


@dataclass(kw_only=True)
class NodeCheck:
    """What was found on one node."""

    host: str
    problems: list[str] = field(default_factory=list)
    """Why nothing may start there."""
    warnings: list[str] = field(default_factory=list)
    """What is told, and hinders nothing."""
    software: str = ""
    python: str = ""


def check_node(spec: Spec, host: str) -> NodeCheck:
    """Look whether servers and learners of a cluster can run on this node.

    Args:
        spec: of the cluster.
        host: address of this node.
    """
    found = NodeCheck(host=host, software=software(), python=platform.python_version())
    if found.software != spec.software:
        found.problems.append(
            f"accrete {found.software} is installed there, and the cluster is to run {spec.software}: install the same "
            "release on every node"
        )
        return found
    with contextlib.suppress(OSError):
        os.chdir(spec.folder)
    try:
        settings = spec.settings()
        check_serving(settings)
        check_learning(settings)
        check_bucket(settings)
    except SettingsError as error:
        found.problems += error.problems
        return found
    placed = on_node(settings, host, settings.data_dir)
    try:
        check_exposure(placed.server, placed.access)
    except ValueError as error:
        found.problems.append(str(error))
    found.problems += [*_files(settings), *_data_dir(settings, spec.mark)]
    _store(settings, host, found)
    if not as_the_raylet():
        found.warnings.append(
            "Ray runs servers at nearly the lowest priority there, and may not be told otherwise: set "
            "RAY_worker_niceness=0 for `ray start`"
        )
    return found


def _files(settings: Settings) -> list[str]:
    problems = []
    for name in ("certificate", "private_key", "client_ca", "tokens"):
        file = getattr(settings.access, name)
        if file and not os.access(file, os.R_OK):
            problems.append(f"access.{name} = {file!r}: it cannot be read there; each node needs it at that path")
    return problems


def _data_dir(settings: Settings, mark: str) -> list[str]:
    name = f"data_dir = {str(settings.data_dir)!r}"
    bucket = bool(settings.artifacts.url)
    elsewhere = "share that folder with every node, or keep versions in a bucket (artifacts.url)"
    try:
        if bucket:
            settings.data_dir.mkdir(parents=True, exist_ok=True)
        elif not settings.data_dir.is_dir():
            return [f"{name}: it is not there; {elsewhere}"]
        elif not (settings.data_dir / MARK).is_file() or (settings.data_dir / MARK).read_text("utf-8") != mark:
            return [f"{name}: it is another folder than where `accrete cluster up` was called; {elsewhere}"]
        with tempfile.TemporaryFile(dir=settings.data_dir):
            pass
    except OSError as error:
        return [f"{name}: {error.strerror}; each node needs to write there"]
    return []


def _store(settings: Settings, host: str, found: NodeCheck) -> None:
    url = settings.store.url
    try:
        store = Store.connect(settings.store, settings.holdout, data_dir=settings.data_dir)
        try:
            ahead = store.clusters.clock_ahead_s()
            ours = any(one.address.rpartition(":")[0].strip("[]") == host for one in store.members.roster().members)
        finally:
            store.close()
    except StoreUnavailable as error:
        reason = "; a socket is of one machine alone" if url.startswith("unix:") and not is_loopback(host) else ""
        found.problems.append(f"store.url: it cannot be reached from there: {error}{reason}")
        return
    except StorageError as error:
        found.problems.append(f"store.url: {error}")
        return
    if not ours and (reason := _taken(host, settings.server.port)):
        found.problems.append(
            f"server.port = {settings.server.port}: {reason} at {host}, and all servers of a node are to be reached "
            "there; choose another port, or 0 for none but those of their own"
        )
    if abs(ahead) > CLOCK_S:
        found.warnings.append(
            f"its clock is {abs(ahead):.0f} s {'behind' if ahead > 0 else 'ahead of'} the store's: times in lists and "
            "logs will be; let both follow a time server"
        )


def _taken(host: str, port: int) -> str:
    """Return why no server can listen there, empty where one can. A port that others share counts as taken."""
    if not port:
        return ""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that have ended are no hindrance
        try:
            probe.bind((host, port))
        except OSError as error:
            return "another process listens" if error.errno == errno.EADDRINUSE else str(error.strerror)
    return ""
