"""How many calls the server answers and how fast, as its `/metrics` say it."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import time
import urllib.request
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from accrete import TlsConfig
from accrete_kit.addresses import is_loopback
from accrete_page.target import Target

WINDOW_S = 10.0
"""Seconds that the figures are of."""
_TIMEOUT_S = 1.0
_MOST_BYTES = 4 * 1024 * 1024
_BUCKET = re.compile(
    r'^accrete_request_seconds_bucket\{(?=[^}]*method="(?:Predict|ModelInfer)")[^}]*le="([^"]+)"[^}]*\} (\S+)$', re.M
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """What callers of Predict have seen in the last seconds."""

    calls_per_s: float
    p50_ms: float | None
    """None where there was no call."""
    p99_ms: float | None


class Traffic:
    """Reads the metrics now and then, and tells what has come since."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, dict[float, float]]] = deque()

    async def read(self, target: Target, token: str, data_dir: str) -> Figures | None:
        """Return the figures of the last seconds; None where they cannot be had, or not yet, or not by this token.

        Args:
            target: the server.
            token: of whoever asks; the metrics need a role.
            data_dir: the server's, where a file says at which port of this machine its metrics are.
        """
        try:
            text = await asyncio.to_thread(_fetch, target, token, Path(data_dir))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        now_s = time.monotonic()
        while len(self._samples) > 1 and self._samples[1][0] < now_s - WINDOW_S:
            self._samples.popleft()
        self._samples.append((now_s, buckets(text)))
        (first_s, first), (last_s, last) = self._samples[0], self._samples[-1]
        return figures(first, last, last_s - first_s) if last_s - first_s > 0.5 else None


def _fetch(target: Target, token: str, data_dir: Path) -> str:
    """Return the text of the metrics.

    Raises:
        OSError, ValueError, KeyError, TypeError: they are not on this machine, or cannot be read.
    """
    host, _, port = target.address.rpartition(":")
    found = json.loads((data_dir / "server.json").read_text("utf-8"))
    metrics = str(found["metrics"])
    if not is_loopback(host) or str(found["address"]).rpartition(":")[2] != port:
        raise ValueError("that server is on another machine")
    metrics_port = metrics.rpartition(":")[2]
    scheme = "https" if target.tls else "http"
    local = host if is_loopback(metrics.rpartition(":")[0]) else "127.0.0.1"
    request = urllib.request.Request(f"{scheme}://{local}:{metrics_port}/metrics")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=_context(target.tls))
    )
    with opener.open(request, timeout=_TIMEOUT_S) as response:
        return str(response.read(_MOST_BYTES).decode(errors="replace"))


def _context(tls: bool | TlsConfig) -> ssl.SSLContext | None:
    """Return what checks that the metrics are the server's: its certificate, whatever name it is for."""
    if not tls:
        return None
    roots = tls.root_certificates if isinstance(tls, TlsConfig) else None
    context = ssl.create_default_context(cafile=None if roots is None else str(roots))
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def buckets(text: str) -> dict[float, float]:
    """Return how many calls of Predict took at most each number of seconds, from the text of `/metrics`."""
    counts: dict[float, float] = {}
    for edge, count in _BUCKET.findall(text):
        counts[float(edge)] = counts.get(float(edge), 0.0) + float(count)
    return counts


def figures(first: Mapping[float, float], last: Mapping[float, float], seconds: float) -> Figures:
    """Return the figures between two readings; one of a server that has started anew counts from zero."""
    grown = {edge: count - first.get(edge, 0.0) for edge, count in sorted(last.items())}
    if any(count < 0 for count in grown.values()):
        grown = dict(sorted(last.items()))
    calls = grown.get(float("inf"), 0.0)
    return Figures(calls_per_s=calls / seconds, p50_ms=_quantile(grown, 0.5), p99_ms=_quantile(grown, 0.99))


def _quantile(grown: Mapping[float, float], share: float) -> float | None:
    """Return milliseconds by linear interpolation within a bucket, as PromQL's `histogram_quantile` does."""
    rank = share * grown.get(float("inf"), 0.0)
    if not rank:
        return None
    below_s, below = 0.0, 0.0
    for edge_s, count in grown.items():
        if count >= rank:
            inside = (rank - below) / (count - below)
            return 1000 * (below_s if edge_s == float("inf") else below_s + (edge_s - below_s) * inside)
        below_s, below = edge_s, count
    return None
