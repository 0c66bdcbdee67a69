"""Real servers of buckets, each started when a test first asks for it: rclone overwrites anything, moto does not."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from accrete_model.artifact_store import ArtifactStore
from accrete_model.config import ArtifactsConfig
from benchmarks.waiting import free_port

KINDS = ("file", "rclone", "moto")
VARIABLE = "ACCRETE_TEST_BUCKET"
"""One of KINDS: tests that use some place for versions then use such a bucket, each data directory another prefix."""
KEY, SECRET = "accretekey", "accretesecret"
_numbers = itertools.count()


class BucketServer:
    """An S3 server with the bucket `bucket`, as a process."""

    def __init__(self, kind: str, folder: Path, *options: str) -> None:
        """Start nothing. `options`: further ones of its command line."""
        self.kind = kind
        self.folder = folder
        self._options = options
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.environment = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._port}",
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
        }
        """What reaches it."""

    def start(self) -> None:
        """Start it, and return once it answers. It may be started again after `stop`, with what rclone had.

        The test that asks for it is skipped where its program is neither beside Python nor on the PATH.
        """
        (self.folder / "bucket").mkdir(parents=True, exist_ok=True)
        at = f"127.0.0.1:{self._port}"
        commands = {
            "rclone": ["rclone", "serve", "s3", "--auth-key", f"{KEY},{SECRET}", "-q", "--addr", at, *self._options],
            "moto": ["moto_server", "-H", "127.0.0.1", "-p", str(self._port)],
        }
        program, *arguments = commands[self.kind]
        found = shutil.which(program, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
        if found is None:
            pytest.skip(f"{program} is not installed")
        command = [found, *arguments]
        if self.kind == "rclone":
            command.append(str(self.folder))
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder)}
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
        request = urllib.request.Request(f"{self.environment['AWS_ENDPOINT_URL']}/bucket", method="PUT")
        until = time.monotonic() + 120
        while time.monotonic() < until:
            try:
                with urllib.request.urlopen(request, timeout=30):
                    return
            except urllib.error.HTTPError as error:
                error.close()
                return  # rclone asks for a signature, and has the bucket as a folder
            except OSError:
                time.sleep(0.02)
        raise TimeoutError(f"{self.kind} does not answer")

    def pause(self) -> None:
        """Let it answer nothing more, with its connections open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def stop(self) -> None:
        """End it without a warning."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class Buckets:
    """One server of each kind for many tests, each of which has a prefix of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._servers: dict[str, BucketServer] = {}

    def new(self, kind: str) -> tuple[str, dict[str, str]]:
        """Return the address of an empty prefix, and the environment that it needs."""
        name = f"p{next(_numbers)}"
        if kind == "file":
            folder = self._folder / name
            folder.mkdir(parents=True)
            return f"file://{folder}", {}
        if kind not in self._servers:
            self._servers[kind] = BucketServer(kind, self._folder / kind)
            self._servers[kind].start()
        return f"s3://bucket/{name}", self._servers[kind].environment

    def stop(self) -> None:
        """End the servers."""
        for server in self._servers.values():
            server.stop()


def overwrite(home: ArtifactsConfig, artifacts: ArtifactStore, version: int, name: str, content: bytes) -> None:
    """Change a file of a version where it is at home: in the folder, and in a bucket too if that has the versions."""
    (artifacts.path(version) / name).write_bytes(content)
    if home.url:
        from accrete_model.bucket.objects import Objects  # brings obstore, which a GPU machine has not

        there = Objects(home.url)
        for found in there.list("versions"):
            if found.key.startswith(f"versions/v{version:06d}-") and found.key.endswith(f"/{name}"):
                there.put(found.key, content)


def contents(home: ArtifactsConfig) -> list[bytes]:
    """Return all objects of a data directory's bucket; none where its versions are in it."""
    if not home.url:
        return []
    from accrete_model.bucket.objects import Objects

    there = Objects(home.url)
    return [there.get(found.key) or b"" for found in there.list("")]
