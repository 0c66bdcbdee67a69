"""Put the server together, start it, and take it down in order."""

from __future__ import annotations

import gc
import logging
import signal
import threading
import time
from functools import partial
from typing import Any

from accrete.inference import service_pb2, service_pb2_grpc
from accrete.v1 import (
    curation_pb2_grpc,
    inbox_pb2_grpc,
    operation_pb2_grpc,
    prediction_pb2,
    prediction_pb2_grpc,
    teaching_pb2_grpc,
)
from accrete_model.artifact_store import ArtifactStore
from accrete_model.artifacts import open_artifacts
from accrete_model.errors import BucketRefused, BucketUnavailable
from accrete_server.access.certificates import Certificates
from accrete_server.access.config import check_exposure
from accrete_server.access.guard import Guard
from accrete_server.access.roles import METRICS_PAGE
from accrete_server.address_file import AddressFile
from accrete_server.curate.service import Curation
from accrete_server.event_hub import EventHub
from accrete_server.fronts.choosing import choose
from accrete_server.fronts.completion_queue import QueueFront, missing
from accrete_server.fronts.front import LineThreads, Method, Methods
from accrete_server.fronts.handlers import HandlersFront
from accrete_server.grpc_server import Health, bind, enable_reflection, make_grpc_server
from accrete_server.images import ImageReader, allow_large_headers
from accrete_server.inbox.sampler import Sampler
from accrete_server.inbox.service import Inbox
from accrete_server.interceptors.interceptor import CallInterceptor
from accrete_server.interceptors.threads import CallThreads
from accrete_server.metrics.collectors import Metrics
from accrete_server.metrics.endpoint import MetricsPage
from accrete_server.metrics.slo_monitor import SloMonitor
from accrete_server.metrics.versions import VersionsCollector
from accrete_server.open_inference.describing import ServedModel
from accrete_server.open_inference.service import OpenInference
from accrete_server.open_inference.shared_memory import SharedMemory, offers
from accrete_server.open_inference.triton_metrics import TritonMetrics
from accrete_server.operate.membership import Membership
from accrete_server.operate.reporting import Reporter
from accrete_server.operate.service import Operation
from accrete_server.operate.step_progress import StepProgress
from accrete_server.predict.admission import Admission, Turns
from accrete_server.predict.line import Line
from accrete_server.predict.pipeline import Pipeline
from accrete_server.predict.service import Prediction
from accrete_server.settings import ServerSettings
from accrete_server.store_connection import StoreConnection
from accrete_server.teach.intake import Intake
from accrete_server.teach.service import Teaching
from accrete_server.teach.stream_limit import StreamLimit
from accrete_server.versions.awaiting import Seen
from accrete_server.versions.load_failures import LoadFailures
from accrete_server.versions.loading import Loader
from accrete_server.versions.slots import Slots
from accrete_server.versions.store_sync import StoreSync
from accrete_server.versions.swapping import Swapper
from accrete_storage.errors import StoreUnavailable
from accrete_storage.store import Store

PREDICT = "/accrete.v1.Prediction/Predict"
MODEL_INFER = "/inference.GRPCInferenceService/ModelInfer"
"""Paths of the methods that the pipeline answers."""

SHORT_CALLS = 32
"""Threads beyond those that Predict, teaching and long-lived calls may hold: for status, health and the like."""

QUIET_S = 0.2
"""Seconds without a call after which the last answers have left; then the connections are closed."""

_SIGNAL_CHECK_S = 0.2

_log = logging.getLogger(__name__)


def serve(settings: ServerSettings) -> None:
    """Serve until SIGTERM or SIGINT, then drain. To be called from the main thread. It raises what `Server` does."""
    asked = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked.set())
    server = Server(settings)
    server.start()
    # By turns: a signal that another thread takes (after a SIGSTOP, say) does not wake this one from an endless wait.
    while not asked.wait(_SIGNAL_CHECK_S):
        pass
    server.stop()


class Server:
    """One server, composed by `__init__` and run by `start` and `stop`."""

    def __init__(self, settings: ServerSettings) -> None:
        """Compose the server without opening anything.

        Raises:
            ValueError: settings of access cannot be used, or would open it to others by oversight; the inbox is on for
                a model that takes no images; or `server.advertise` is no address.
        """
        config, access = settings.server, settings.access
        check_exposure(config, access)
        settings.inbox.check(settings.spec)
        self._config = config
        self._ready = False
        self.port = 0
        """The port of gRPC, once it was started."""
        self.metrics_port = 0
        """The port of `/metrics`, once it was started."""

        self._connection = StoreConnection(lambda: _connect(settings))
        self._slo_monitor = SloMonitor(config.p99_target_ms / 1000, self._connection)
        self.metrics = Metrics(self._slo_monitor.observe if config.p99_target_ms else None)
        """What the server measures of itself."""

        # How many calls of each kind there may be.
        at_once = config.at_once(settings.engine.threads)
        self.predict_line = Line(limit="queue", at_once=at_once, queue=config.queue)
        """Who may predict now, who waits, and who is refused."""
        self.teach_admission = Admission(limit="queue", at_once=config.teaching_concurrency, queue=config.queue)
        """The same of batches of examples."""
        self.stream_limit = StreamLimit(config.max_watchers)
        """The long-lived calls that are open."""

        # The versions in memory, and what keeps them in step with the store.
        self.slots = Slots()
        """The live version, and those that still finish their last requests."""
        self._hub = EventHub()
        artifacts = self._artifacts = open_artifacts(settings.artifacts, settings.data_dir)
        load_failures = LoadFailures()
        loader = Loader(artifacts, settings.engine, settings.spec, self.metrics.model)
        swapper = Swapper(self.slots, loader, load_failures, self.metrics.model, settings.data_dir)
        self._progress = StepProgress()
        self._membership = Membership(config.advertise, self._connection, self.slots, self.predict_line.busy_s)
        self._store_sync = StoreSync(self._connection, swapper, self._progress.note, self._hub, self.metrics)

        # What callers reach: gRPC, the page of metrics, and the file that says where both are.
        guard = Guard(access)
        self._certificates = Certificates(access) if access.certificate else None
        predicting = at_once + 2 * config.queue  # in line for admission, and then for the batcher
        teaching = config.teaching_concurrency + config.queue
        threads = CallThreads(predicting + teaching + config.max_watchers + SHORT_CALLS)
        admissions: dict[str, Turns[Any]] = {
            PREDICT: self.predict_line,
            MODEL_INFER: self.predict_line,
            "/accrete.v1.Teaching/AddExamples": self.teach_admission,
            "/accrete.v1.Inbox/LabelInbox": self.teach_admission,
        }
        self._interceptor = CallInterceptor(
            self.metrics.requests,
            guard,
            threads,
            admissions,
            settings.node,
            self._membership.trailers,
            Seen(self.slots) if config.advertise else None,
        )
        self._grpc = make_grpc_server(config, threads, self._interceptor)
        self._health = Health(self._grpc)
        if access.reflection:
            enable_reflection(self._grpc)
        self._page = MetricsPage(
            self.metrics.registry,
            lambda header: guard.admit_token(METRICS_PAGE, header),
            self._certificates.context if self._certificates else None,
        )
        self._address_file = AddressFile(settings.data_dir)

        model = ServedModel(
            name=config.model_name,
            spec=settings.spec,
            max_images=config.max_images,
            at_once=at_once,
            unknown_rate=config.unknown_rate,
        )
        reader = ImageReader(settings.spec, max_pixels=config.max_pixels, max_bytes=config.max_image_bytes)
        self._sampler = Sampler(settings.inbox, self._connection, reader, self.metrics.inbox)
        observe = self._sampler.observe if settings.inbox.enabled else None
        offered = offers(config.shared_memory, config.host)
        self._shared_memory = SharedMemory(offered=offered, max_bytes=config.max_message_bytes)
        self._pipeline = Pipeline(
            config.max_images, self.slots, self.predict_line, self.metrics.predict, observe, queue=config.queue
        )
        methods, handlers = self._add_predicting(model, reader)
        self._add_teaching(reader, settings)
        own = partial(QueueFront, self._grpc, methods, self._interceptor, self.predict_line, self._pipeline, threads)
        chosen = choose(config.front, missing(self._grpc, methods))
        self.front = chosen.text
        """Which front serves, and why it is not another, for people."""
        self._line_threads = LineThreads(own() if chosen.own else handlers, self._pipeline, at_once)
        self._add_operating(settings, artifacts, load_failures)
        self._add_gauges()
        self.metrics.registry.register(VersionsCollector(artifacts))
        if config.triton_metrics:
            self.metrics.registry.register(
                TritonMetrics(model.name, self.metrics.statistics, lambda: self._predict_waiting)
            )

    def _add_predicting(self, model: ServedModel, reader: ImageReader) -> tuple[Methods, HandlersFront]:
        """Return the methods that the pipeline answers, and the front on handlers that were added for them."""
        handlers = HandlersFront(self.predict_line, self._pipeline)
        prediction = Prediction(self._config, handlers.answer, reader)
        inference = OpenInference(
            model,
            self.slots,
            handlers.answer,
            reader,
            self.metrics.statistics,
            self._shared_memory,
            is_ready=lambda: self._ready,
        )
        prediction_pb2_grpc.add_PredictionServicer_to_server(prediction, self._grpc)
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(inference, self._grpc)
        methods = {
            PREDICT: Method(message=prediction_pb2.PredictRequest, query=prediction.query),
            MODEL_INFER: Method(message=service_pb2.ModelInferRequest, query=inference.query),
        }
        return methods, handlers

    def _add_teaching(self, reader: ImageReader, settings: ServerSettings) -> None:
        admission, metrics = self.teach_admission, self.metrics.teach
        intake = Intake(self._config, self._connection, reader, admission, metrics, settings.store.image_quality)
        inbox = Inbox(self._config, settings.inbox, self._connection, intake, self.metrics.inbox)
        inbox_pb2_grpc.add_InboxServicer_to_server(inbox, self._grpc)
        teaching = Teaching(self._config, self._connection, self.slots, self._hub, self.stream_limit, intake)
        teaching_pb2_grpc.add_TeachingServicer_to_server(teaching, self._grpc)

    def _add_operating(self, settings: ServerSettings, artifacts: ArtifactStore, load_failures: LoadFailures) -> None:
        reporter = Reporter(self._connection, self.slots, settings, self._progress, self._membership, self.front)
        operation = Operation(
            self._config,
            self._connection,
            self.slots,
            artifacts,
            reporter,
            load_failures,
            settings.deep_refusal,
            self._membership,
        )
        operation_pb2_grpc.add_OperationServicer_to_server(operation, self._grpc)
        curation = Curation(self._config, self._connection, self.slots)
        curation_pb2_grpc.add_CurationServicer_to_server(curation, self._grpc)

    def _add_gauges(self) -> None:
        gauge = self.metrics.gauge
        gauge("predict_working", "Turns of Predict calls at work.", lambda: self.predict_line.working)
        gauge("predict_waiting", "Predict calls in line.", lambda: self._predict_waiting)
        gauge("teaching_waiting", "AddExamples batches in line.", lambda: self.teach_admission.waiting)
        gauge("calls_under_way", "Calls that have come and have no end yet.", lambda: self._interceptor.under_way)
        gauge("shared_memory_regions", "Regions of shared memory registered.", lambda: self._shared_memory.count)
        gauge("watchers", "Long-lived calls open.", lambda: self.stream_limit.open)
        gauge("members", "Servers that clients may spread their calls over; 0: none.", lambda: self._membership.members)

    @property
    def _predict_waiting(self) -> int:
        return self.predict_line.waiting + self._pipeline.batcher.waiting

    @property
    def address(self) -> str:
        """Where it listens, as "127.0.0.1:50051"."""
        return f"{self._config.host}:{self.port}"

    def start(self) -> None:
        """Load the active version, if any, and serve from then on.

        A store that does not answer is no error: what was served last is served again. Nor is a bucket that is away.

        Raises:
            StoreMisconfigured: the store answers and cannot be used.
            BucketRefused: no version can be fetched before somebody changes something, and none is here.
            OSError: a port is taken, or the data directory cannot be written.
        """
        allow_large_headers()
        try:
            self._connection.connect()
        except StoreUnavailable as error:
            _log.warning("server.started_without_store", extra={"reason": str(error)})
        try:
            self._artifacts.check(writes=False)
        except BucketRefused:
            raise
        except BucketUnavailable as error:
            _log.warning("server.started_without_bucket", extra={"reason": str(error)})
        self._store_sync.sync()
        self.port = bind(self._grpc, self._config, self._certificates)
        self.metrics_port = self._page.start(self._config.metrics_host, self._config.metrics_port)
        self._store_sync.start()
        self._slo_monitor.start()
        self._sampler.start()
        gc.collect()
        gc.freeze()  # what lives as long as the process need not be looked at by every collection
        self._grpc.start()
        self._line_threads.start()
        self._health.serving()
        self._ready = True
        self._address_file.write(address=self.address, metrics=f"{self._config.metrics_host}:{self.metrics_port}")
        self._membership.start(self.port)
        _log.info(
            "server.started",
            extra={
                "address": self.address,
                "version": self.slots.version,
                "front": self.front,
            },
        )

    def stop(self) -> None:
        """Take the server down in order.

        Health comes first, then new calls, then those under way, then the threads behind them.
        """
        _log.info("server.draining")
        self._health.stopping()
        self._ready = False
        self._membership.drain()
        time.sleep(self._config.drain_s)
        stopped = self._grpc.stop(self._config.grace_s)
        self._hub.close()
        self.slots.close()
        self._await_quiet(stopped)
        self._grpc.stop(None).wait()
        self._line_threads.stop()
        self._pipeline.batcher.close()
        self._slo_monitor.stop()
        self._sampler.stop()
        self._store_sync.stop()
        self._membership.stop()
        self.slots.free()
        self._connection.close()
        self._page.close()
        self._shared_memory.close()
        self._address_file.remove()
        _log.info("server.stopped")

    def _await_quiet(self, stopped: threading.Event) -> None:
        """Wait until no call of ours is under way, at most the grace. Others' watches of our health need no grace."""
        quiet_since = time.monotonic()
        while not stopped.wait(0.02) and time.monotonic() - quiet_since < QUIET_S:
            if self._interceptor.under_way:
                quiet_since = time.monotonic()


def _connect(settings: ServerSettings) -> Store:
    store = Store.connect(settings.store, settings.holdout, data_dir=settings.data_dir, teaching=settings.teaching)
    store.bind_model(str(settings.spec))
    return store
