"""A server on its store, without a learner, that serves a ResNet-32 nobody trained: what it answers costs the same."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from accrete import Client, TlsConfig
from accrete.v1 import prediction_pb2, types_pb2
from accrete_learner import backbones, export
from accrete_learner.config import ModelConfig
from accrete_model.artifact_store import ArtifactStore
from accrete_model.files import GRAPH_FILE
from accrete_storage.config import HoldoutConfig, StoreConfig
from accrete_storage.embedded.server import EmbeddedStore
from accrete_storage.store import Store
from accrete_storage.versions.commit import Commit
from accrete_storage.versions.record import VersionRecord
from benchmarks.node import cpu_s, resident_bytes
from benchmarks.noise import noise
from benchmarks.waiting import free_port, until

Build = Callable[..., backbones.Backbone]
"""Makes the network of a model from it and a `generator`."""

RESNET32 = ModelConfig()
"""The papers' network."""
SHAPE = RESNET32.input_shape


@dataclass(frozen=True, kw_only=True)
class LoneServer:
    """One that runs."""

    process: subprocess.Popen[bytes]
    address: str
    data_dir: Path
    store_pid: int
    graph: Path
    """The ONNX file of the backbone that it serves."""
    ready_s: float
    """Seconds from its start to its first answer to Predict."""

    def cpu_s(self) -> float:
        """Processor time of all its threads so far."""
        return cpu_s(self.process.pid)

    def resident(self) -> int:
        """Return bytes in RAM."""
        return resident_bytes(self.process.pid)

    def has_torch(self) -> bool:
        """Return whether PyTorch's libraries are loaded."""
        return "libtorch" in Path(f"/proc/{self.process.pid}/maps").read_text()


@contextmanager
def lone_server(
    folder: Path,
    cores: Set[int],
    classes: Iterable[int] = (100,),
    settings: Mapping[str, str] | None = None,
    model: ModelConfig = RESNET32,
) -> Iterator[LoneServer]:
    """Start one on these cores, with a version for each number of classes; the first is live. `settings`: further ones
    by `SECTION.FIELD`, which have to name another `model` too."""
    data_dir = folder / "data"
    with (
        published(data_dir, StoreConfig(), classes, model) as (store, _),
        serving(data_dir, cores, settings, model, store_pid=store.pid or 0) as server,
    ):
        yield server


@contextmanager
def serving(
    data_dir: Path,
    cores: Set[int],
    settings: Mapping[str, str] | None = None,
    model: ModelConfig = RESNET32,
    *,
    store_pid: int = 0,
    checkout: Path | None = None,
) -> Iterator[LoneServer]:
    """Start a server on these cores, on a store that runs and has versions; there may be others beside it.

    Args:
        data_dir: of the store.
        cores: the server's.
        settings: further ones by `SECTION.FIELD`; `server.port` lets several share one.
        model: of the versions.
        store_pid: the store's process, to be told.
        checkout: folder of another state of this project, whose server it is; None: this one's.
    """
    process, address, ready_s = _start(data_dir, cores, settings or {}, model, checkout)
    try:
        yield LoneServer(
            process=process,
            address=address,
            data_dir=data_dir,
            store_pid=store_pid,
            graph=ArtifactStore(data_dir / "versions").path(1) / GRAPH_FILE,
            ready_s=ready_s,
        )
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def published(
    data_dir: Path,
    config: StoreConfig,
    classes: Iterable[int] = (100,),
    model: ModelConfig = RESNET32,
    build: Build = backbones.build,
) -> Iterator[tuple[EmbeddedStore, ArtifactStore]]:
    """Yield the store on its own, running, with a version for each number of classes; the first is live."""
    store = EmbeddedStore(data_dir, config)
    store.start()
    try:
        yield store, _publish(data_dir, config, list(classes), model, build)
    finally:
        store.stop()


def nothing(model: ModelConfig, *, generator: torch.Generator) -> backbones.Backbone:
    """Return a network for `published` that computes next to nothing: what is left is the server."""
    return backbones.Backbone(_Corner(), model.channels, model.input_shape, torch.zeros(3), torch.ones(3))


class _Corner(torch.nn.Module):
    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return batch[:, :, 0, 0]


def request(folder: Path, images: int, model: ModelConfig = RESNET32) -> Path:
    """Return a file with a serialised PredictRequest of as many images, all noise."""
    file = folder / f"request-{images}"
    tensors = [
        types_pb2.Tensor(dtype=types_pb2.Tensor.UINT8, shape=pixels.shape, data=pixels.tobytes())
        for pixels in noise(images, model.input_shape)
    ]
    message = prediction_pb2.PredictRequest(images=[types_pb2.Image(tensor=tensor) for tensor in tensors])
    file.write_bytes(message.SerializeToString())
    return file


def _publish(
    data_dir: Path, config: StoreConfig, classes: Sequence[int], model: ModelConfig, build: Build
) -> ArtifactStore:
    torch.set_num_threads(1)  # else its threads wait for each other where others use the cores
    store, artifacts = Store.connect(config, HoldoutConfig(), data_dir=data_dir), ArtifactStore(data_dir / "versions")
    lease = store.acquire_lease("benchmark")
    if lease is None:
        raise RuntimeError("the store is in use")
    for version, count in enumerate(classes, 1):
        labels = [f"class {number}" for number in range(count)]
        candidate = data_dir / "work" / str(version)
        candidate.parent.mkdir(parents=True, exist_ok=True)
        _write(candidate, labels, model, build)
        record = _record(version, labels, artifacts.publish(candidate, version))
        event = {"version": version, "new_labels": [], "accuracy": record.accuracy, "step_seconds": 0.0}
        revision = store.registry.state().revision
        commit = Commit(
            epoch=lease.epoch,
            revision=revision,
            step_id=f"step-{version}",
            record=record,
            consumed={},
            per_class=0,
            event=event,
        )
        if not store.commit(commit):
            raise RuntimeError(f"version {version} was not committed")
    store.registry.activate(1)
    lease.release()
    store.close()
    return artifacts


def _write(folder: Path, labels: Sequence[str], model: ModelConfig, build: Build) -> None:
    generator = torch.Generator().manual_seed(1993)
    backbone = build(model, generator=generator).eval()
    rows = torch.randn(len(labels), backbone.feature_length, generator=generator)
    head = {
        "weight": rows,
        "scale": torch.tensor([10.0]),
        "means": torch.nn.functional.normalize(rows),
    }
    candidate = export.Candidate(
        backbone=backbone,
        head=head,
        labels=tuple(labels),
        model=model,
        method="lucir",
        rule="head",
        last_relu=build is not backbones.build,  # another network: of those that are alike in this one is traced
    )
    export.write(folder, candidate, torch.from_numpy(noise(8, model.input_shape)))


def _record(version: int, labels: list[str], digest: str) -> VersionRecord:
    unknown = {"all": None, "old": None, "new": None, "average_incremental": None, "forgetting": None, "examples": 0}
    return VersionRecord(
        version=version,
        state="ready",
        parent=version - 1,
        created_ms=int(time.time() * 1000),
        labels=labels,
        new_labels=labels,
        method="lucir",
        digest=digest,
        accuracy=unknown,
        class_accuracy={},
        step_seconds=0.0,
        stage_seconds={},
        learned={},
        revision=0,
        since=dict.fromkeys(labels, version),
    )


def _start(
    data_dir: Path, cores: Set[int], settings: Mapping[str, str], model: ModelConfig, checkout: Path | None
) -> tuple[subprocess.Popen[bytes], str, float]:
    """Return the process, its address, and the seconds until it answered."""
    chosen = {
        "server.port": str(free_port()),
        "server.metrics_port": "0",
        "engine.device": "cpu",
        "server.concurrency": str(len(cores)),
        **settings,
    }
    command = ["taskset", "-c", ",".join(map(str, sorted(cores))), sys.executable, "-m", "accrete", "serve"]
    command += ["--data-dir", str(data_dir)]
    command += [part for name, value in chosen.items() for part in ("--set", f"{name}={value}")]
    log_file = data_dir / "server.log"
    with log_file.open("ab") as log:
        told = log.tell()
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=log, stderr=log, env=_environment(checkout))
    # Of several servers in one folder, `server.json` is the first one's.
    started_since = partial(_has_started, log_file, told)
    until(lambda: started_since() or process.poll() is not None, what="the server")
    if process.poll() is not None:
        raise RuntimeError(f"the server ended: {log_file.read_text(errors='replace')[-3000:]}")
    address = f"127.0.0.1:{chosen['server.port']}"
    with Client(address, timeout=30, tls=_tls(settings)) as client:
        client.predict(noise(1, model.input_shape)[0])
    return process, address, time.perf_counter() - started


def _has_started(log: Path, since: int) -> bool:
    with log.open("rb") as file:
        file.seek(since)
        return b"server.started" in file.read()


def _tls(settings: Mapping[str, str]) -> bool | TlsConfig:
    certificate = settings.get("access.certificate")
    return TlsConfig(root_certificates=certificate) if certificate else False


def _environment(checkout: Path | None) -> dict[str, str]:
    """Return the environment, with that checkout's packages before all others."""
    if checkout is None:
        return dict(os.environ)
    paths = [str(checkout / folder) for folder in ("clients/python", "server", "learner", "storage", "protos", ".")]
    return os.environ | {"PYTHONPATH": os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")])}
