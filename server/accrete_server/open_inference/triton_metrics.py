"""The statistics under the names that Triton gives them, for dashboards that exist already.

They are exported as untyped, because prometheus_client would append `_total` to the name of a counter, and no query
would find it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import GaugeMetricFamily, Metric, UntypedMetricFamily
from prometheus_client.registry import Collector

from accrete_server.metrics.statistics import Statistics, VersionStatistics

REASONS = {
    "RESOURCE_EXHAUSTED": "REJECTED",
    "DEADLINE_EXCEEDED": "REJECTED",
    "CANCELLED": "CANCELED",
    "INTERNAL": "BACKEND",
}
"""Triton's word for why a call failed, by gRPC code. What is not here is OTHER."""

_SUMS: dict[str, tuple[str, Callable[[VersionStatistics], float]]] = {
    "nv_inference_request_success": ("Calls answered.", lambda own: own.calls),
    "nv_inference_count": ("Images answered.", lambda own: own.images),
    "nv_inference_exec_count": ("Computations.", lambda own: own.executions),
    "nv_inference_request_duration_us": ("Of calls, in microseconds.", lambda own: own.total_s * 1e6),
    "nv_inference_queue_duration_us": ("Waiting, in microseconds.", lambda own: own.queue_s * 1e6),
    "nv_inference_compute_input_duration_us": ("Decoding, in microseconds.", lambda own: own.decode_s * 1e6),
    "nv_inference_compute_infer_duration_us": ("Computing, in microseconds.", lambda own: own.compute_s * 1e6),
    "nv_inference_compute_output_duration_us": ("All the rest, in microseconds.", lambda own: own.output_s * 1e6),
}


class TritonMetrics(Collector):
    """A collector that reads the statistics when it is scraped and costs nothing between."""

    def __init__(self, model: str, statistics: Statistics, waiting: Callable[[], int]) -> None:
        """Export the statistics of `model`. `waiting` returns the number of calls in line now."""
        self._model = model
        self._statistics = statistics
        self._waiting = waiting

    def collect(self) -> Iterable[Metric]:
        """Yield one family per name, with a sample per version."""
        known = self._statistics.snapshot()
        for name, (text, read) in _SUMS.items():
            family = UntypedMetricFamily(name, text, labels=("model", "version"))
            for own in known:
                family.add_metric((self._model, str(own.version)), read(own))
            yield family
        failures = UntypedMetricFamily(
            "nv_inference_request_failure", "Calls that failed.", labels=("model", "version", "reason")
        )
        for own in known:
            for reason, count in _failures(own):
                failures.add_metric((self._model, str(own.version), reason), count)
        yield failures
        pending = GaugeMetricFamily("nv_inference_pending_request_count", "Calls in line.", labels=("model",))
        pending.add_metric((self._model,), self._waiting())
        yield pending


def _failures(own: VersionStatistics) -> Iterator[tuple[str, int]]:
    for reason in ("REJECTED", "CANCELED", "BACKEND", "OTHER"):
        yield reason, sum(count for code, count in own.failed.items() if REASONS.get(code, "OTHER") == reason)
