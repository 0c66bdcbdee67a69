"""The page `/metrics` that Prometheus reads. It is not encrypted, so it listens on this machine alone by default."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import prometheus_client

from accrete_kit.ports import metrics_cannot_listen
from accrete_learner_service.runtime.metrics import Metrics


@contextmanager
def metrics_page(metrics: Metrics, host: str, port: int) -> Iterator[str]:
    """Serve /metrics inside the block, and yield the address, HOST:PORT.

    Args:
        metrics: to show.
        host: address to listen on.
        port: to listen on; 0 takes any free one.

    Raises:
        OSError: the port is taken, or the address is not this machine's.
    """
    try:
        server, thread = prometheus_client.start_http_server(port, host, registry=metrics.registry)
    except OSError as error:
        raise metrics_cannot_listen(host, port, error, setting="learner.metrics_port") from error
    try:
        yield f"{host}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
