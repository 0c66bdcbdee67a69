"""What a server brought from the bucket of versions, and how full its cache is, in Prometheus' format."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from accrete_model.artifact_store import ArtifactStore


class VersionsCollector(Collector):
    """Reads the cache when it is asked. There is nothing to tell where versions are in the data directory."""

    def __init__(self, artifacts: ArtifactStore) -> None:
        self._artifacts = artifacts

    def collect(self) -> Iterator[Metric]:
        """Return what there is to tell."""
        cache = self._artifacts.cache_state()
        if cache is None:
            return
        yield CounterMetricFamily(
            "accrete_fetched_versions", "Versions fetched from the bucket.", cache.fetched_versions
        )
        yield CounterMetricFamily("accrete_fetched_bytes", "Bytes of them.", cache.fetched_bytes)
        yield GaugeMetricFamily("accrete_cache_bytes", "Bytes of versions and backbones here.", cache.bytes)
        yield GaugeMetricFamily("accrete_cache_limit_bytes", "Bytes that there may be.", cache.limit)
