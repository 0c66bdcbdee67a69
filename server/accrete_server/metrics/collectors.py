"""The metrics of the server for Prometheus. No label holds text that a user chose.

Children of labelled metrics are looked up once and kept: a lookup costs more than the observation.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client import Histogram as LabelledHistogram

from accrete_server.metrics.histogram import Buckets, Histogram
from accrete_server.metrics.statistics import Statistics

SECONDS = (
    0.00025, 0.0005, 0.00075, 0.001, 0.0015, 0.002, 0.003, 0.005, 0.0075, 0.01,
    0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0,
)  # fmt: skip
"""Edges of latency histograms: about x1.5 apart where answers of a small model lie, wider above."""

SWAP_SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
UNKNOWN_PHASE = "unknown"
STAGES = ("fetch", "verify", "read", "engine", "golden", "warm", "fit")
"""What a candidate can fail at."""
DROPPED = ("busy", "rate", "duplicate", "share", "store", "image")
"""Why an image that the model was unsure of is not kept."""
DECIDED = ("labelled", "skipped", "reopened")
PREDICTIONS = frozenset({"Predict", "ModelInfer"})
"""Methods that the model serves."""


class RequestMetrics:
    """Counts and latencies of calls, by method, outcome code and the learner's phase at the time."""

    def __init__(
        self, registry: CollectorRegistry, statistics: Statistics, observe: Callable[[float], None] | None
    ) -> None:
        labels = ("method", "code", "phase")
        self._statistics = statistics
        self._observe = observe
        self.phase = UNKNOWN_PHASE
        """The learner's phase as last read from the store."""
        self._seconds = Histogram(
            "accrete_request_seconds",
            "From a call's coming to its end.",
            SECONDS,
            registry,
            labels,
            counter=("accrete_requests", "Calls answered."),
        )
        self._bound: dict[tuple[str, str, str], Buckets] = {}

    def observe(self, method: str, code: str, seconds: float) -> None:
        """Count one call that has ended.

        Args:
            method: one of ours, without its service.
            code: a gRPC status name.
            seconds: from the handler's start to its end.
        """
        key = (method, code, self.phase)
        bound = self._bound.get(key)
        if bound is None:
            bound = self._bound[key] = self._seconds.of(*key)
        bound.observe(seconds)
        if method in PREDICTIONS:
            if code != "OK":
                self._statistics.failed(code, seconds)
            elif self._observe is not None:
                self._observe(seconds)


class PredictMetrics:
    """What predictions compute and wait for."""

    def __init__(self, registry: CollectorRegistry, statistics: Statistics) -> None:
        self.statistics = statistics
        self._images = Counter("accrete_images", "Images computed.", registry=registry)
        self._unknown = Counter("accrete_unknown_images", "Images that were called unknown.", registry=registry)

        def histogram(name: str, text: str, edges: Sequence[float] = SECONDS) -> Buckets:
            return Histogram(f"accrete_{name}", text, edges, registry).of()

        self._batch = histogram("batch_images", "Images in one computation.", BATCH_SIZES)
        self._compute = histogram("compute_seconds", "Features and probabilities of one batch.")
        self._waits = histogram("queue_seconds", "A call's wait for its turn.")
        self._decode = histogram("decode_seconds", "Decoding and resizing of one call's images.")

    def computed(self, version: int, images: int, seconds: float) -> None:
        """Count one batch that `version` has computed."""
        self.statistics.computed(version, images, seconds)
        self._images.inc(images)
        self._batch.observe(images)
        self._compute.observe(seconds)

    def unknown(self, images: int) -> None:
        """Count images that were called unknown."""
        self._unknown.inc(images)

    def answered(
        self, version: int, images: int, *, total_s: float, queue_s: float, decode_s: float, compute_s: float
    ) -> None:
        """Count one call that `version` has answered, and its stages."""
        self.statistics.answered(
            version, images, total_s=total_s, queue_s=queue_s, decode_s=decode_s, compute_s=compute_s
        )
        self._waits.observe(queue_s)
        self._decode.observe(decode_s)


class TeachMetrics:
    """What became of examples."""

    def __init__(self, registry: CollectorRegistry) -> None:
        examples = Counter(
            "accrete_examples", "Examples received, by what became of them.", ("outcome",), registry=registry
        )
        self._outcomes = {name: examples.labels(name) for name in ("stored", "duplicate", "conflict", "refused")}
        self._quotas = Counter(
            "accrete_quota_refusals", "Batches beyond a principal's quota, by its limit.", ("limit",), registry=registry
        )

    def example(self, outcome: str, count: int = 1) -> None:
        """Count examples whose outcome is "stored", "duplicate", "conflict" or "refused"."""
        self._outcomes[outcome].inc(count)

    def quota(self, limit: str) -> None:
        """Count a batch that a principal's quota of the name `limit` refused."""
        self._quotas.labels(limit).inc()


class InboxMetrics:
    """What became of images that the model was unsure of."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._kept = Counter("accrete_inbox_kept", "Images put into the inbox.", registry=registry)
        dropped = Counter(
            "accrete_inbox_dropped",
            "Images that the model was unsure of and that were not put into the inbox, by reason.",
            ("reason",),
            registry=registry,
        )
        self._dropped = {reason: dropped.labels(reason) for reason in DROPPED}
        decided = Counter(
            "accrete_inbox_decided", "Images labelled, skipped or reopened.", ("what",), registry=registry
        )
        self._decided = {what: decided.labels(what) for what in DECIDED}
        self.open = 0
        """Images open, as last read from the store."""
        Gauge("accrete_inbox_open", "Images in the inbox that wait for a person.", registry=registry).set_function(
            lambda: self.open
        )

    def kept(self) -> None:
        """Count an image that was kept."""
        self._kept.inc()

    def dropped(self, reason: str, images: int = 1) -> None:
        """Count images that were not kept for one of the reasons of `DROPPED`."""
        self._dropped[reason].inc(images)

    def decided(self, what: str, images: int) -> None:
        """Count images that were "labelled", "skipped" or "reopened"."""
        self._decided[what].inc(images)


class ModelMetrics:
    """The live version, swaps, and what the store says about learning."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"accrete_{name}", text, registry=registry)

        self.live_version = gauge("live_version", "The version that answers; 0: none.")
        self.classes = gauge("classes", "Classes in the live version, masked ones not counted.")
        self.newest_learned = gauge(
            "newest_learned_timestamp_seconds",
            "When the newest example came that the live version has learned; 0: none, or not known.",
        )
        self.provisional = gauge("provisional_classes", "Classes answered from their prototype alone.")
        self.slots = gauge("slots_resident", "Versions in memory.")
        self.swaps = Counter("accrete_swaps", "Versions that went live.", registry=registry)
        self.broken = Counter(
            "accrete_broken_candidates", "Candidates that could not go live, by stage.", ("stage",), registry=registry
        )
        for stage in STAGES:  # a series that begins with 1 shows no increase
            self.broken.labels(stage)
        self.swap_seconds = LabelledHistogram(
            "accrete_swap_seconds", "A swap's stages.", ("stage",), buckets=SWAP_SECONDS, registry=registry
        )
        self.store_up = gauge("store_up", "Whether the store answered last time.")
        self.pending = gauge("pending_examples", "Examples not yet learned.")
        self.pending_bytes = gauge("pending_bytes", "Bytes of examples not yet learned.")
        self._oldest_ms: int | None = None
        gauge("oldest_unlearned_seconds", "Age of the oldest of them; 0: none.").set_function(self._age)

    def oldest_pending(self, oldest_ms: int | None) -> None:
        """Set when the oldest unlearned example came, in milliseconds since 1970, or None if there is none."""
        self._oldest_ms = oldest_ms

    def _age(self) -> float:
        return 0.0 if self._oldest_ms is None else max(0.0, time.time() - self._oldest_ms / 1000)


class Metrics:
    """All of the server's metrics, in a registry of their own."""

    def __init__(self, observe: Callable[[float], None] | None = None) -> None:
        """Make all metrics. `observe` is called with the seconds of each answered prediction."""
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter that nobody charts
        self.registry = CollectorRegistry()
        self.statistics = Statistics()
        self.requests = RequestMetrics(self.registry, self.statistics, observe)
        self.predict = PredictMetrics(self.registry, self.statistics)
        self.teach = TeachMetrics(self.registry)
        self.inbox = InboxMetrics(self.registry)
        self.model = ModelMetrics(self.registry)
        ProcessCollector(namespace="accrete", registry=self.registry)

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Add a gauge `accrete_<name>` that is read when it is scraped."""
        Gauge(f"accrete_{name}", text, registry=self.registry).set_function(read)
