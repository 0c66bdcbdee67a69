"""Histograms of our own say what prometheus_client's would."""

from __future__ import annotations

import threading

from prometheus_client import CollectorRegistry, Counter, disable_created_metrics, generate_latest
from prometheus_client import Histogram as LabelledHistogram

from accrete_server.metrics.collectors import SECONDS
from accrete_server.metrics.histogram import Histogram

VALUES = (0.0, 0.00025, 0.00026, 0.0031, 0.0031, 4.9, 5.0, 5.1, 1e9)


def test_the_text_is_that_of_prometheus_clients_own_metrics():
    disable_created_metrics()  # type: ignore[no-untyped-call]
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    labels = ("method", "code")
    histogram = Histogram("x_seconds", "Of x.", SECONDS, ours, labels, counter=("x", "Calls."))
    plain = Histogram("y", "Of y.", (1, 2), ours).of()
    bound = LabelledHistogram("x_seconds", "Of x.", labels, buckets=SECONDS, registry=theirs)
    counter = Counter("x", "Calls.", labels, registry=theirs)
    alone = LabelledHistogram("y", "Of y.", buckets=(1, 2), registry=theirs)
    for number, value in enumerate(VALUES):
        of = ("Predict", "OK") if number % 2 else ("Predict", "CANCELLED")
        histogram.of(*of).observe(value)
        bound.labels(*of).observe(value)
        counter.labels(*of).inc()
        plain.observe(value)
        alone.observe(value)
    assert generate_latest(ours) == generate_latest(theirs)


def test_nothing_is_lost_among_threads():
    registry = CollectorRegistry()
    histogram = Histogram("x", "Of x.", (1, 2), registry, ("of",))

    def work() -> None:
        for _ in range(2000):
            histogram.of("all").observe(1.5)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert histogram.of("all").read() == ([0, 8000, 8000], 12000.0)
