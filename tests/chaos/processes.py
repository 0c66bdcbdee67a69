"""Real learners and servers, forked from one process that has imported everything, so that each starts at once."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import redis

from accrete import Client
from accrete_kit.failpoints import VARIABLE
from accrete_learner.trainer.job import INPUTS_FILE
from accrete_learner_service import app as learner_app
from accrete_learner_service.runtime.status import Progress
from accrete_learner_service.trainer.child import Trainer
from accrete_model.artifact_store import ArtifactStore
from accrete_model.artifacts import open_artifacts
from accrete_model.config import ArtifactsConfig, EngineConfig
from accrete_model.input_spec import InputSpec
from accrete_node.log import set_up
from accrete_node.settings import LogConfig
from accrete_server.app import serve
from accrete_server.config import ServerConfig
from accrete_server.settings import ServerSettings
from accrete_storage.config import StoreConfig
from accrete_storage.store import Store
from benchmarks.bucket import home_of
from benchmarks.waiting import until
from tests.learner_service.run_learner import HOLDOUT, config
from tests.support.forks import fork, fork_trainers


class RememberingTrainer(Trainer):
    """Trains for real once; given the same inputs again, it answers with the same candidate without a process."""

    def __init__(self, kept: Path, nice: int) -> None:
        super().__init__(nice=nice)
        self._kept = kept

    def stand_by(self) -> None:
        """Not before it is known that there is something to train."""

    def run(
        self,
        folder: Path,
        on_progress: Callable[[Progress], None],
        check: Callable[[], None],
        on_note: Callable[[str], None] = print,
    ) -> None:
        kept = self._kept / sha256((folder / INPUTS_FILE).read_bytes()).hexdigest()
        if not kept.exists():
            super().stand_by()
            super().run(folder, on_progress, check, on_note)
            shutil.copytree(folder, kept)
        shutil.copytree(kept, folder, dirs_exist_ok=True)


def learn(
    data_dir: Path,
    store: StoreConfig,
    home: ArtifactsConfig,
    kept: Path,
    options: dict[str, Any],
    environment: dict[str, str],
) -> None:
    """Runs a learner."""
    _begin(data_dir / "learner.log", "learner", environment)
    fork_trainers()
    setattr(learner_app, "Trainer", lambda nice: RememberingTrainer(kept, nice))  # noqa: B010
    fast = {"trigger": {"settle_s": 0.0}, "learner": {"poll_s": 0.02}}
    merged = {name: fast.get(name, {}) | options.get(name, {}) for name in fast | options}
    learner_app.learn(config(merged), store, HOLDOUT, data_dir, home)


def answer(
    data_dir: Path, store: StoreConfig, home: ArtifactsConfig, name: str, environment: dict[str, str], advertise: str
) -> None:
    """Runs a server, whose own folder `name` is beside the versions that all share, if these are in no bucket."""
    _begin(data_dir / f"{name}.log", "server", environment)
    serve(
        ServerSettings(
            data_dir=data_dir / name,
            spec=InputSpec((8, 8, 1), "uint8"),
            method="icarl",
            server=ServerConfig(port=0, metrics_port=0, drain_s=0.0, grace_s=2.0, advertise=advertise),
            store=store,
            holdout=HOLDOUT,
            engine=EngineConfig(device="cpu", threads=1),
            artifacts=home,
        )
    )


def _begin(log: Path, name: str, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    set_up(LogConfig(format="text"), name)


class Forked:
    """A process that runs one of the above."""

    def __init__(self, run: Callable[..., None], *arguments: object) -> None:
        self.process = fork(run, *arguments)

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def ended(self) -> int:
        """Waits for its end; answers the exit status, negative for a signal."""
        self.process.join(300)
        assert self.process.exitcode is not None, "it goes on"
        return self.process.exitcode

    def stop(self) -> int:
        """SIGTERM, and its exit status."""
        self.process.terminate()
        return self.ended()

    def pause(self) -> None:
        """SIGSTOP."""
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def stopped(self) -> bool:
        """Whether a SIGSTOP holds it."""
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    def end(self) -> None:
        """Ends it whatever it does."""
        self.process.kill()
        self.process.join()


class Place:
    """A prefix of the store, a folder of versions, perhaps the learner's cache of a bucket, and processes on both."""

    def __init__(self, url: str, prefix: str, data_dir: Path, kept: Path) -> None:
        self.config = StoreConfig(url=url, prefix=prefix)
        self.data_dir = data_dir
        self.versions = data_dir / "versions"
        self.home = home_of(data_dir)
        self.environment: dict[str, str] = {}
        """Further variables of processes, which are forked from one that has those of the run's start."""
        data_dir.mkdir(parents=True, exist_ok=True)
        self._kept = kept
        self._running: list[Forked] = []
        self._store: Store | None = None

    @property
    def store(self) -> Store:
        """A connection."""
        self._store = self._store or Store.connect(self.config, HOLDOUT, data_dir=self.data_dir)
        return self._store

    def learner(self, failpoints: str = "", data_dir: Path | None = None, **options: Any) -> Forked:
        """Starts one."""
        return self._run(
            learn, data_dir or self.data_dir, self.config, self.home, self._kept, options, self._with(failpoints)
        )

    def server(self, failpoints: str = "", name: str = "server", *, url: str = "", advertise: str = "") -> Forked:
        """Starts one; `url`: of a store in place of this one."""
        folder = self.data_dir / name
        if not folder.exists():
            folder.mkdir()
            self.share(folder)
        store = StoreConfig(url=url or self.config.url, prefix=self.config.prefix)
        return self._run(answer, self.data_dir, store, self.home, name, self._with(failpoints), advertise)

    def _with(self, failpoints: str) -> dict[str, str]:
        return self.environment | {VARIABLE: failpoints}

    def share(self, folder: Path) -> None:
        """Let a data directory have the same versions."""
        if not self.home.url:
            (folder / "versions").symlink_to(self.versions)

    @property
    def artifacts(self) -> ArtifactStore:
        """The versions, as a machine reads them that has none of a bucket's here."""
        return open_artifacts(self.home, self.data_dir / "elsewhere" if self.home.url else self.data_dir)

    def client(self, server: Forked, name: str = "server") -> Client:
        """A client of a server that runs, once it answers."""
        return Client(self.address(server, name), timeout=300)

    def address(self, server: Forked, name: str = "server") -> str:
        """Where a server that runs listens, once it does."""
        return str(until(lambda: self._address(server, name), lambda: f"{name}:\n{self.log(name)}"))

    def _address(self, server: Forked, name: str) -> str:
        assert server.process.is_alive(), f"it has ended\n{self.log(name)}"
        file = self.data_dir / name / "server.json"
        said = json.loads(file.read_text()) if file.exists() else {"pid": 0}
        return str(said["address"]) if said["pid"] == server.pid else ""

    def log(self, name: str = "learner") -> str:
        """What processes of that name said."""
        return (self.data_dir / f"{name}.log").read_text()

    def lease_runs_out(self) -> None:
        """What a killed learner's lease does by itself, sooner."""
        client = redis.Redis.from_url(self.config.url)
        client.delete(f"{{{self.config.prefix}}}:lease")
        client.close()

    def copy(self, prefix: str, data_dir: Path) -> Place:
        """The same state under another prefix and folder."""
        client = redis.Redis.from_url(self.config.url)
        old, new = f"{{{self.config.prefix}}}".encode(), f"{{{prefix}}}".encode()
        for key in client.scan_iter(old.replace(b"[", rb"\[") + b"*"):
            client.restore(key.replace(old, new, 1), 0, client.dump(key) or b"")
        client.close()
        place = Place(self.config.url, prefix, data_dir, self._kept)
        shutil.copytree(self.versions, place.versions)
        place.into_bucket()
        return place

    def into_bucket(self) -> None:
        """Put the versions of the folder into the bucket, if one is set."""
        ready = {one.version: one.digest for one in self.store.registry.versions() if one.state == "ready"}
        open_artifacts(self.home, self.data_dir).take_over(self.store.identity(), ready)

    def close(self) -> None:
        """Ends what runs."""
        for process in self._running:
            process.end()
        if self._store is not None:
            self._store.close()

    def _run(self, run: Callable[..., None], *arguments: object) -> Forked:
        self._running.append(Forked(run, *arguments))
        return self._running[-1]
