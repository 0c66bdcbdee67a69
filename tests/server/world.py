"""A small world for tests: the embedded store, published versions, servers and their callers."""

from __future__ import annotations

import os
import pathlib
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from accrete.v1 import (
    inbox_pb2,
    inbox_pb2_grpc,
    operation_pb2,
    operation_pb2_grpc,
    prediction_pb2,
    prediction_pb2_grpc,
    teaching_pb2,
    teaching_pb2_grpc,
    types_pb2,
)
from accrete_model.artifact_store import ArtifactStore
from accrete_model.config import ArtifactsConfig, EngineConfig
from accrete_model.loaded_version import load
from accrete_server.access.config import AccessConfig
from accrete_server.app import Server
from accrete_server.config import ServerConfig
from accrete_server.inbox.config import InboxConfig
from accrete_server.settings import ServerSettings
from accrete_storage.config import HoldoutConfig, StoreConfig, TeachingConfig
from accrete_storage.embedded.server import EmbeddedStore
from accrete_storage.store import Store
from accrete_storage.versions.commit import Commit
from accrete_storage.versions.judgements import Judged, pack
from accrete_storage.versions.record import VersionRecord
from benchmarks.waiting import until
from tests.model.artifacts import Recipe, write_artifact

SHAPE = (4, 4, 3)


def pixels(seed: int = 0, shape: tuple[int, ...] = SHAPE) -> NDArray[np.uint8]:
    """A random image in the model's form."""
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def raw(array: NDArray[Any]) -> types_pb2.Image:
    """An array on the wire."""
    dtype = types_pb2.Tensor.UINT8 if array.dtype == np.uint8 else types_pb2.Tensor.FLOAT32
    return types_pb2.Image(tensor=types_pb2.Tensor(dtype=dtype, shape=array.shape, data=array.tobytes()))


def example(label: str = "cat", seed: int = 0, example_id: str = "", **fields: Any) -> teaching_pb2.Example:
    """An example on the wire."""
    return teaching_pb2.Example(label=label, image=raw(pixels(seed)), id=example_id, **fields)


@dataclass(frozen=True, kw_only=True)
class Running:
    """A server and a channel to it."""

    server: Server
    channel: grpc.Channel

    @property
    def prediction(self) -> prediction_pb2_grpc.PredictionStub:
        return prediction_pb2_grpc.PredictionStub(self.channel)

    @property
    def teaching(self) -> teaching_pb2_grpc.TeachingStub:
        return teaching_pb2_grpc.TeachingStub(self.channel)

    @property
    def operation(self) -> operation_pb2_grpc.OperationStub:
        return operation_pb2_grpc.OperationStub(self.channel)

    @property
    def inbox(self) -> inbox_pb2_grpc.InboxStub:
        return inbox_pb2_grpc.InboxStub(self.channel)

    def listed(self, **fields: Any) -> list[inbox_pb2.InboxItem]:
        return list(self.inbox.ListInbox(inbox_pb2.ListInboxRequest(**fields), timeout=300).items)

    def predict(self, *seeds: int, timeout: float = 10, **fields: Any) -> prediction_pb2.PredictResponse:
        images = [raw(pixels(seed)) for seed in seeds or (0,)]
        return self.prediction.Predict(prediction_pb2.PredictRequest(images=images, **fields), timeout=timeout)

    def add(self, *examples: teaching_pb2.Example, timeout: float = 10) -> list[teaching_pb2.ExampleResult]:
        request = teaching_pb2.AddExamplesRequest(examples=examples)
        return list(self.teaching.AddExamples(request, timeout=timeout).results)

    def status(self) -> operation_pb2.GetStatusResponse:
        return self.operation.GetStatus(operation_pb2.GetStatusRequest(), timeout=300)

    def serves(self, version: int) -> None:
        """Waits until it answers from a version."""
        until(lambda: self.status().version == version)


class World:
    """One data directory and what runs on it."""

    def __init__(self, data_dir: pathlib.Path, store: StoreConfig, front: str = "auto") -> None:
        self.data_dir = data_dir
        self.front = front
        """The setting `server.front` of its servers."""
        self.config = store
        self.artifacts = ArtifactStore(data_dir / "versions")
        self.home = ArtifactsConfig()
        """Where servers look for versions."""
        self._embedded: EmbeddedStore | None = None
        self._store: Store | None = None
        self._running: list[Running] = []

    @property
    def store(self) -> Store:
        """A connection to the store."""
        if self._store is None:
            self._store = Store.connect(self.config, HoldoutConfig(), data_dir=self.data_dir)
        return self._store

    def start_store(self) -> None:
        """Starts an embedded store in the data directory, for a configuration that names no other."""
        assert not self.config.url, "the store is not this world's own"
        self._embedded = EmbeddedStore(self.data_dir, self.config)
        self._embedded.start()

    def kill_store(self) -> None:
        """Ends the store without warning."""
        assert self._embedded is not None
        assert self._embedded.pid is not None
        os.kill(self._embedded.pid, signal.SIGKILL)
        self._embedded.stop()
        self._embedded = None

    def server(
        self,
        recipe: Recipe | None = None,
        *,
        access: AccessConfig | None = None,
        teaching: TeachingConfig | None = None,
        inbox: InboxConfig | None = None,
        deep_refusal: str = "",
        **settings: Any,
    ) -> Running:
        """Starts a server on free ports."""
        defaults: dict[str, Any] = {"port": 0, "metrics_port": 0, "drain_s": 0.0, "grace_s": 5.0}
        defaults["front"] = self.front
        server = Server(
            ServerSettings(
                data_dir=self.data_dir,
                spec=(recipe or Recipe()).spec,
                method="finetune",
                deep_refusal=deep_refusal,
                exemplar_budget=lambda classes: 20 * classes,
                server=ServerConfig(**defaults | settings),
                store=self.config,
                engine=EngineConfig(device="cpu"),
                artifacts=self.home,
                access=access or AccessConfig(),
                teaching=teaching or TeachingConfig(),
                inbox=inbox or InboxConfig(),
            )
        )
        server.start()
        running = Running(server=server, channel=grpc.insecure_channel(server.address))
        self._running.append(running)
        return running

    def stop(self, running: Running) -> None:
        """Stop a server in order."""
        self.forget(running)
        running.server.stop()

    def forget(self, running: Running) -> None:
        """Leave it to the test to stop a server, or know that it has; close the channel to it."""
        self._running.remove(running)
        running.channel.close()

    def publish(
        self,
        version: int,
        recipe: Recipe | None = None,
        *,
        spoil: Callable[[pathlib.Path], None] | None = None,
        break_it: Callable[[pathlib.Path], None] | None = None,
        learned: Mapping[str, str] | None = None,
        consumed: Mapping[str, str] | None = None,
        state: Any = "ready",
        judged: Sequence[Judged] | None = None,
    ) -> VersionRecord:
        """Trains nothing, but publishes and commits a version as a learner would.

        `spoil` changes the candidate before its checksums are made, `break_it` the published folder after.
        """
        recipe = recipe or Recipe(seed=version)
        candidate = write_artifact(self.data_dir / "work" / str(version), recipe)
        if spoil is not None:
            spoil(candidate)
        digest = self.artifacts.publish(candidate, version)
        if break_it is not None:
            break_it(self.artifacts.path(version))
        record = self.record(version, recipe, digest, dict(learned or {}), state)
        if judged is not None:
            total = Counter(one.label for one in judged)
            right = Counter(one.label for one in judged if one.predicted == one.label)
            shares = {label: right[label] / count for label, count in total.items()}
            record = replace(record, class_examples=dict(total), class_accuracy=shares)
        lease = self.store.acquire_lease("test")
        assert lease is not None
        event = {"version": version, "new_labels": record.new_labels, "accuracy": record.accuracy, "step_seconds": 1.5}
        revision = self.store.registry.state().revision
        commit = Commit(
            epoch=lease.epoch,
            revision=revision,
            step_id=f"step-{version}",
            record=record,
            consumed=consumed or {},
            per_class=20,
            event=event,
            judgements="" if judged is None else pack(judged, recipe.labels),
        )
        assert self.store.commit(commit)
        lease.release()
        return record

    def publish_with_holdout(self, images: NDArray[Any], recipe: Recipe = Recipe()) -> None:  # noqa: B008
        """Publishes version 1, whose hold-out is nearer than half of `images` are."""
        loaded = load(write_artifact(self.data_dir / "same", recipe), 1, EngineConfig(device="cpu"))
        nearness = loaded.classifier().nearness(loaded.features(images))
        self.publish(1, replace(recipe, nearness=(float(np.median(nearness)),) * 19))

    def record(self, version: int, recipe: Recipe, digest: str, learned: dict[str, str], state: Any) -> VersionRecord:
        accuracy = {"all": 0.9, "old": None, "new": 0.9, "average_incremental": 0.9, "forgetting": None, "examples": 7}
        return VersionRecord(
            version=version,
            state=state,
            parent=version - 1,
            created_ms=1_700_000_000_000 + version,
            labels=list(recipe.labels),
            new_labels=list(recipe.labels),
            method="finetune",
            digest=digest,
            accuracy=accuracy,
            class_accuracy={},
            step_seconds=1.5,
            stage_seconds={},
            learned=learned,
            revision=self.store.registry.state().revision,
            since=dict.fromkeys(recipe.labels, version),
        )

    def close(self) -> None:
        for running in list(self._running):
            self.stop(running)
        if self._store is not None:
            self._store.close()
        if self._embedded is not None:
            self._embedded.stop()


class Blocked:
    """Has the engine of a server's live version wait until it is let go, and counts what is computed meanwhile."""

    def __init__(self, running: Running) -> None:
        loaded: Any = running.server.slots.take().slot.loaded
        self.gate, self.computed = threading.Event(), 0
        self._running = running
        self._features, self._lock = loaded.features, threading.Lock()
        loaded.features = self._wait

    def take_turn(self) -> Any:
        """Have a call take a turn, and return it."""
        before, request = self.computed, prediction_pb2.PredictRequest(images=[raw(pixels())])
        call = self._running.prediction.Predict.future(request, timeout=300)
        until(lambda: self.computed > before)
        return call

    def _wait(self, batch: Any) -> Any:
        with self._lock:
            self.computed += 1
        assert self.gate.wait(300)
        return self._features(batch)


def labels_of(response: prediction_pb2.PredictResponse) -> list[list[str]]:
    """The ranked labels of each image."""
    return [[ranked.label for ranked in prediction.labels] for prediction in response.predictions]


def total(prediction: Any) -> float:
    """The sum of the probabilities of one image."""
    return float(sum(ranked.probability for ranked in prediction.labels))


def ids_of(results: Iterable[teaching_pb2.ExampleResult]) -> list[str]:
    return [result.id for result in results]


@dataclass(frozen=True, kw_only=True)
class Failure:
    """How a call ended that was to fail."""

    code: grpc.StatusCode
    details: str
    trailers: dict[str, str]


def failure(call: Callable[[], object]) -> Failure:
    """Calls, and answers how it failed."""
    try:
        call()
    except grpc.RpcError as error:
        pairs: Any = error.trailing_metadata() or ()
        trailers = {str(key): str(value) for key, value in pairs}
        return Failure(code=error.code(), details=error.details() or "", trailers=trailers)
    raise AssertionError("the call did not fail")
