"""Puts the server together, starts it, and takes it down in order."""

from __future__ import annotations

import gc
import json
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from accrete.inference import service_pb2, service_pb2_grpc
from accrete.v1 import (
    operation_pb2,
    operation_pb2_grpc,
    prediction_pb2,
    prediction_pb2_grpc,
    teaching_pb2,
    teaching_pb2_grpc,
)
from accrete_kit.atomic_file import write_json
from accrete_model.artifact_store import ArtifactStore
from accrete_model.config import EngineConfig
from accrete_model.input_spec import InputSpec
from accrete_server.access.certificates import Certificates
from accrete_server.access.config import AccessConfig, check_exposure
from accrete_server.access.guard import Guard
from accrete_server.access.roles import METRICS_PAGE
from accrete_server.config import ServerConfig
from accrete_server.images import ImageReader, allow_large_headers
from accrete_server.interceptors.interceptor import Edge
from accrete_server.interceptors.threads import CallThreads
from accrete_server.metrics.collectors import Metrics
from accrete_server.metrics.endpoint import MetricsPage
from accrete_server.metrics.slo_monitor import Lateness
from accrete_server.open_inference.describing import ServedModel
from accrete_server.open_inference.service import OpenInference
from accrete_server.open_inference.triton_metrics import TritonMetrics
from accrete_server.operate.reporting import Reporter, Setting
from accrete_server.operate.service import Operation
from accrete_server.predict.admission import Admission
from accrete_server.predict.batching import Batcher
from accrete_server.predict.computing import Predictor
from accrete_server.predict.service import Answering, Prediction
from accrete_server.store_connection import StoreLink
from accrete_server.teach.intake import Intake
from accrete_server.teach.service import Teaching
from accrete_server.versions.load_failures import BrokenCandidates
from accrete_server.versions.loading import Loader
from accrete_server.versions.slots import Slots
from accrete_server.versions.store_sync import Follower
from accrete_server.versions.swapping import Swapper
from accrete_server.watching import Hub, Seats
from accrete_storage.config import HoldoutConfig, StoreConfig, TeachingConfig
from accrete_storage.errors import StoreUnavailable
from accrete_storage.store import Store

SERVICES = tuple(
    module.DESCRIPTOR.services_by_name[name].full_name
    for module, name in (
        (prediction_pb2, "Prediction"),
        (teaching_pb2, "Teaching"),
        (operation_pb2, "Operation"),
        (service_pb2, "GRPCInferenceService"),
    )
)
SHORT_CALLS = 32
"""Threads beyond those that Predict, teaching and watchers may hold: status, health and the like."""

QUIET_S = 0.2
"""Seconds without a call after which the last answers have left; then the connections are closed."""

_SIGNAL_CHECK_S = 0.2
_OPEN = AccessConfig()
_NO_QUOTAS = TeachingConfig()

_log = logging.getLogger(__name__)


class Server:
    """One server: composed by `__init__`, run by `start` and `stop`."""

    def __init__(
        self,
        config: ServerConfig,
        store: StoreConfig,
        holdout: HoldoutConfig,
        engine: EngineConfig,
        spec: InputSpec,
        data_dir: Path,
        *,
        method: str,
        exemplar_budget: Callable[[int], int] | None = None,
        access: AccessConfig = _OPEN,
        teaching: TeachingConfig = _NO_QUOTAS,
    ) -> None:
        """Opens nothing yet. `exemplar_budget`: exemplars allowed for a number of classes, for GetStatus to tell.

        Raises ValueError for settings of access that cannot be used, or that would open it to others by oversight.
        """
        check_exposure(config, access)
        self._config = config
        self._access = access
        self._guard = Guard(access)
        self._certificates = Certificates(access) if access.certificate else None
        self._data_dir = data_dir
        self._link = StoreLink(lambda: _connect(store, holdout, teaching, spec, data_dir))
        self._lateness = Lateness(config.p99_target_ms / 1000, self._link)
        self._metrics = Metrics(self._lateness.answered if config.p99_target_ms else None)
        self._slots, self._hub, self._seats = Slots(), Hub(), Seats(config.max_watchers)
        at_once = config.at_once(engine.threads)
        self._model = ServedModel(
            name=config.model_name,
            spec=spec,
            max_images=config.max_images,
            at_once=at_once,
            unknown_rate=config.unknown_rate,
        )
        self._ready = False
        self._working = Admission(limit="queue", at_once=at_once, queue=config.queue)
        self._teaching = Admission(limit="queue", at_once=config.teaching, queue=config.queue)
        self._batcher = Batcher(self._slots, self._metrics.predict, queue=config.queue)
        artifacts = ArtifactStore(data_dir / "versions")
        self._broken = BrokenCandidates()
        loader = Loader(artifacts, engine, spec, self._metrics.model)
        self._swapper = Swapper(self._slots, loader, self._broken, self._metrics.model, data_dir)
        self._follower = Follower(self._link, self._swapper, self._hub, self._metrics)
        self._health = health.HealthServicer()
        lines = {
            "/accrete.v1.Prediction/Predict": self._working,
            "/inference.GRPCInferenceService/ModelInfer": self._working,
            "/accrete.v1.Teaching/AddExamples": self._teaching,
        }
        self._threads = CallThreads(
            at_once + 2 * config.queue + config.queue + config.teaching + config.max_watchers + SHORT_CALLS
        )
        self._edge = Edge(self._metrics.requests, self._guard, self._threads, lines)
        self._page = MetricsPage(
            self._metrics.registry,
            lambda header: self._guard.admit_token(METRICS_PAGE, header),
            self._certificates.context if self._certificates else None,
        )
        self._grpc = self._make_grpc()
        setting = Setting(spec=spec, method=method, exemplar_budget=exemplar_budget, unknown_rate=config.unknown_rate)
        self._add_services(artifacts, spec, setting)
        self._add_gauges()
        self.port = 0
        self.metrics_port = 0

    def start(self) -> None:
        """Loads the active version, if any, and answers from then on.

        Raises StoreMisconfigured and its kin when the store is there and not fit; OSError when a port is taken.
        A store that does not answer is no error: what was served last is served again.
        """
        allow_large_headers()
        try:
            self._link.reach()
        except StoreUnavailable as problem:
            _log.warning("started_without_store", extra={"reason": str(problem)})
        self._follower.look()
        self.port = self._bind()
        self.metrics_port = self._page.start(self._config.metrics_host, self._config.metrics_port)
        self._follower.start()
        self._lateness.start()
        gc.collect()
        gc.freeze()  # what lives as long as the process need not be looked at by every collection
        self._grpc.start()
        self._set_health(health_pb2.HealthCheckResponse.SERVING)
        self._ready = True
        self._write_address()
        _log.info("serving", extra={"address": self.address, "version": self._slots.version})

    def stop(self) -> None:
        """Takes the server down: health first, then new calls, then those under way, then the threads behind them."""
        _log.info("draining")
        self._health.enter_graceful_shutdown()
        self._ready = False
        time.sleep(self._config.drain_s)
        stopped = self._grpc.stop(self._config.grace_s)
        self._hub.close()
        self._slots.close()
        self._await_quiet(stopped)
        self._grpc.stop(None).wait()
        self._batcher.close()
        self._lateness.stop()
        self._follower.stop()
        self._slots.free()
        self._link.close()
        self._page.close()
        self._remove_address()
        _log.info("stopped")

    def _await_quiet(self, stopped: threading.Event) -> None:
        """Waits until no call of ours is under way, at most the grace. Others' watches of our health need no grace."""
        quiet_since = time.monotonic()
        while not stopped.wait(0.02) and time.monotonic() - quiet_since < QUIET_S:
            if self._edge.under_way:
                quiet_since = time.monotonic()

    @property
    def address(self) -> str:
        """Where it listens: "127.0.0.1:50051"."""
        return f"{self._config.host}:{self.port}"

    def _make_grpc(self) -> grpc.Server:
        return grpc.server(
            self._threads,
            interceptors=[self._edge],
            maximum_concurrent_rpcs=self._threads.count,  # a backstop: admission refuses long before, and says why
            options=(
                ("grpc.max_receive_message_length", self._config.max_message_bytes),
                ("grpc.max_send_message_length", self._config.max_message_bytes),
                ("grpc.so_reuseport", int(self._config.share_port)),  # else a second is a mistake to be told
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
            ),
        )

    def _add_services(self, artifacts: ArtifactStore, spec: InputSpec, setting: Setting) -> None:
        config, link, slots = self._config, self._link, self._slots
        reader = ImageReader(spec, max_pixels=config.max_pixels, max_bytes=config.max_image_bytes)
        predictor = Predictor(slots, self._working, self._batcher, self._metrics.predict)
        answering = Answering(config.max_images, predictor, self._metrics.predict)
        prediction = Prediction(config, slots, answering, reader)
        inference = OpenInference(
            self._model, slots, answering, reader, self._metrics.statistics, is_ready=lambda: self._ready
        )
        intake = Intake(config, link, reader, self._teaching, self._metrics.teach)
        teaching = Teaching(config, link, slots, self._hub, self._seats, intake, self._guard)
        reporter = Reporter(link, slots, setting)
        operation = Operation(config, link, slots, artifacts, reporter, self._broken)
        prediction_pb2_grpc.add_PredictionServicer_to_server(prediction, self._grpc)
        teaching_pb2_grpc.add_TeachingServicer_to_server(teaching, self._grpc)
        operation_pb2_grpc.add_OperationServicer_to_server(operation, self._grpc)
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(inference, self._grpc)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._grpc)
        if self._access.reflection:
            reflection.enable_server_reflection((*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), self._grpc)

    def _add_gauges(self) -> None:
        gauge, working, teaching = self._metrics.gauge, self._working, self._teaching
        gauge("predict_working", "Predict calls at work.", lambda: working.working)
        gauge("predict_waiting", "Predict calls in line.", lambda: working.waiting + self._batcher.waiting)
        gauge("teaching_waiting", "AddExamples batches in line.", lambda: teaching.waiting)
        gauge("calls_under_way", "Calls that a handler works on.", lambda: self._edge.under_way)
        gauge("watchers", "Long-lived calls open.", lambda: self._seats.taken)
        if self._config.triton_metrics:
            self._metrics.registry.register(
                TritonMetrics(
                    self._model.name, self._metrics.statistics, lambda: working.waiting + self._batcher.waiting
                )
            )

    def _bind(self) -> int:
        address = f"{self._config.host}:{self._config.port}"
        try:
            if self._certificates is None:
                port = self._grpc.add_insecure_port(address)
            else:
                port = self._grpc.add_secure_port(address, self._certificates.credentials())
        except RuntimeError as problem:  # gRPC does not tell which of both it is
            raise OSError(
                f"cannot listen on {address}: another process has the port, or the address is not this machine's; "
                "change server.port (--port) or server.host (--host)"
            ) from problem
        return port

    def _set_health(self, status: health_pb2.HealthCheckResponse.ServingStatus) -> None:
        for service in ("", *SERVICES):
            self._health.set(service, status)

    @property
    def _address_file(self) -> Path:
        return self._data_dir / "server.json"

    def _write_address(self) -> None:
        metrics = f"{self._config.metrics_host}:{self.metrics_port}"
        write_json(self._address_file, {"address": self.address, "metrics": metrics, "pid": os.getpid()})

    def _remove_address(self) -> None:
        """Removes server.json if it is still ours."""
        try:
            if json.loads(self._address_file.read_text())["pid"] == os.getpid():
                self._address_file.unlink()
        except (OSError, ValueError, KeyError) as problem:
            _log.warning("address_file_not_removed", extra={"reason": str(problem)})


def serve(
    config: ServerConfig,
    store: StoreConfig,
    holdout: HoldoutConfig,
    engine: EngineConfig,
    spec: InputSpec,
    data_dir: Path,
    *,
    method: str,
    exemplar_budget: Callable[[int], int] | None = None,
    access: AccessConfig = _OPEN,
    teaching: TeachingConfig = _NO_QUOTAS,
) -> None:
    """Serves until SIGTERM or SIGINT, then drains. To be called from the main thread. Raises as `Server.start`."""
    asked = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked.set())
    server = Server(
        config,
        store,
        holdout,
        engine,
        spec,
        data_dir,
        method=method,
        exemplar_budget=exemplar_budget,
        access=access,
        teaching=teaching,
    )
    server.start()
    # By turns: a signal that another thread takes (after a SIGSTOP, say) does not wake this one from an endless wait.
    while not asked.wait(_SIGNAL_CHECK_S):
        pass
    server.stop()


def _connect(
    store: StoreConfig, holdout: HoldoutConfig, teaching: TeachingConfig, spec: InputSpec, data_dir: Path
) -> Store:
    connected = Store.connect(store, holdout, data_dir=data_dir, teaching=teaching)
    connected.bind_model(str(spec))
    return connected
