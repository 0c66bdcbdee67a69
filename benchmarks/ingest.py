"""Durable ingest: examples per second that are on disk when acknowledged, beside bare XADDs to the same store.

3 KB images (32 x 32 x 3, raw) over one StreamExamples call to a real server on an embedded store with `appendfsync
always`: by the client library, and as messages that are ready to be sent. Beside it, in interleaved rounds, a client of
the store appends records of the same size to a stream, in pipelines as long as our batches, bare and as transactions;
and the storage package stores the same examples without a server. All of them share all cores.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import grpc
import numpy as np
import redis

from accrete import Client
from accrete.v1 import teaching_pb2, types_pb2
from accrete_storage.config import HoldoutConfig, StoreConfig
from accrete_storage.embedded.server import socket_path
from accrete_storage.examples.example import Example, pack
from accrete_storage.store import Store
from benchmarks.lone_server import SHAPE, LoneServer, lone_server
from benchmarks.node import cpu_s
from benchmarks.report import Row, arguments, machine, median_row, show
from benchmarks.variants import add_flags, by_turns

_BATCH = 256
"""Records in a pipeline, and examples in a message that is ready: as many as a server takes. The client library sends
its own number."""
_PLAIN = "XADD in pipelines"
"""The store syncs as often as it reads from the socket, many times a pipeline."""
_IN_TRANSACTIONS = "XADD in transactions"
"""A pipeline is one MULTI/EXEC, and synced once: the fastest bare way."""
_METHOD = f"/{teaching_pb2.DESCRIPTOR.services_by_name['Teaching'].full_name}/StreamExamples"

_Item = TypeVar("_Item")


@dataclass(kw_only=True)
class Found:
    """What the rounds of one way of writing came to."""

    rates: list[float] = field(default_factory=list)
    """Examples per second."""
    server_us: list[float] = field(default_factory=list)
    """Processor time of the server, an example."""
    store_us: list[float] = field(default_factory=list)

    def add(self, rate: float, server_us: float, store_us: float) -> None:
        """One more round."""
        self.rates.append(rate)
        self.server_us.append(server_us)
        self.store_us.append(store_us)


class Ways:
    """The ways to write; each takes fresh images [N, 32, 32, 3] and returns once all are acknowledged."""

    def __init__(self, server: LoneServer) -> None:
        self._redis = redis.Redis(unix_socket_path=str(socket_path(server.data_dir)))
        self._store = Store.connect(StoreConfig(), HoldoutConfig(), data_dir=server.data_dir)
        self._client = Client(server.address, timeout=60)
        self._channel = grpc.insecure_channel(server.address)
        self.server = server

    def __enter__(self) -> Ways:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()
        self._client.close()
        self._store.close()
        self._redis.close()

    def xadd(self, images: np.ndarray, *, transaction: bool = False) -> Callable[[], None]:
        """Bare pipelined XADD."""
        records = [pack(_example(image)) for image in images]

        def write() -> None:
            for part in _parts(records):
                pipeline = self._redis.pipeline(transaction=transaction)
                for record in part:
                    pipeline.xadd("bare", {"e": record})
                pipeline.execute()

        return write

    def storage(self, images: np.ndarray) -> Callable[[], None]:
        """Our storage package without a server."""
        examples = [_example(image) for image in images]

        def write() -> None:
            for part in _parts(examples):
                self._store.pending.add(part)

        return write

    def client_library(self, images: np.ndarray) -> Callable[[], None]:
        """Return the client library."""

        def write() -> None:
            results = self._client.stream_examples(("new", image) for image in images)
            if sum(result.outcome == "stored" for result in results) != len(images):
                raise RuntimeError("not all examples were stored")

        return write

    def messages(self, images: np.ndarray) -> Callable[[], None]:
        """Messages that are ready, over one call."""
        ready = [_message(part) for part in _parts(list(images))]

        def write() -> None:
            call = self._channel.stream_stream(_METHOD, None, teaching_pb2.AddExamplesResponse.FromString)
            stored = sum(len(answer.results) for answer in call(iter(ready)))
            if stored != len(images):
                raise RuntimeError("not all examples were stored")

        return write

    def clear(self) -> None:
        """Forget what was written."""
        self._redis.delete("bare")
        if self._store.pending.labels():
            self._client.forget_class("new")


def main() -> None:
    """Run the benchmark. The exit status is 1 when a bound is not kept."""
    parser = arguments(__doc__ or "")
    add_flags(parser)
    parsed = parser.parse_args()
    facts = machine()
    rounds, count = (4, 10 * _BATCH) if parsed.short else (15, 20 * _BATCH)

    def measured(folder: Path, settings: Mapping[str, str], parts: int) -> list[Row]:
        with lone_server(folder, os.sched_getaffinity(0), settings=settings) as server, Ways(server) as ways:
            return measure(ways, rounds=-(-rounds // parts), count=count)

    with tempfile.TemporaryDirectory(prefix="accrete-ingest-") as folder:
        rows = by_turns(parsed, Path(folder), measured)
    show(rows, facts, parsed.json)
    raise SystemExit(any(row.ok is False for row in rows))


def measure(ways: Ways, *, rounds: int, count: int) -> list[Row]:
    """Write by turns, `count` examples each time."""
    draw = np.random.default_rng(1993)
    kinds: dict[str, Callable[[np.ndarray], Callable[[], None]]] = {
        _PLAIN: ways.xadd,
        _IN_TRANSACTIONS: partial(ways.xadd, transaction=True),
        "storage without a server": ways.storage,
        "streamed, ready messages": ways.messages,
        "streamed, client library": ways.client_library,
    }
    found = {name: Found() for name in kinds}
    for number in range(rounds + 1):
        for name, prepare in kinds.items():
            write = prepare(draw.integers(0, 256, (count, *SHAPE), dtype=np.uint8))
            once = _timed(ways.server, write, count)
            ways.clear()
            if number:  # the first round warms up
                found[name].add(*once)
    return [row for name, one in found.items() for row in _rows(name, one, found)]


def _timed(server: LoneServer, write: Callable[[], None], count: int) -> tuple[float, float, float]:
    """Return examples per second, and microseconds of the server's and of the store's processor for each."""
    before = server.cpu_s(), cpu_s(server.store_pid)
    started = time.perf_counter()
    write()
    seconds = time.perf_counter() - started
    after = server.cpu_s(), cpu_s(server.store_pid)
    spent = [1e6 * (late - early) / count for early, late in zip(before, after, strict=True)]
    return count / seconds, spent[0], spent[1]


def _rows(name: str, one: Found, found: Mapping[str, Found]) -> list[Row]:
    rows = [median_row(name, one.rates, "/s")]
    if "XADD" not in name:
        for other in (_PLAIN, _IN_TRANSACTIONS):
            ratios = [mine / theirs for mine, theirs in zip(one.rates, found[other].rates, strict=True)]
            bound = ">= 0.5" if "streamed" in name and other == _PLAIN else ""
            rows.append(median_row(f"{name}: over {other}", ratios, "x", bound))
        rows.append(median_row(f"{name}: server's CPU an example", one.server_us, "us"))
    rows.append(median_row(f"{name}: store's CPU an example", one.store_us, "us"))
    return rows


def _example(image: np.ndarray) -> Example:
    identity = image[0, 0].tobytes().hex() + image[1].tobytes().hex()[:24]
    return Example(id=identity, label="new", content=image)


def _message(images: Sequence[np.ndarray]) -> bytes:
    wire = [
        teaching_pb2.Example(
            label="new",
            image=types_pb2.Image(
                tensor=types_pb2.Tensor(dtype=types_pb2.Tensor.UINT8, shape=SHAPE, data=image.tobytes())
            ),
        )
        for image in images
    ]
    return teaching_pb2.AddExamplesRequest(examples=wire).SerializeToString()


def _parts(items: Sequence[_Item]) -> Iterator[Sequence[_Item]]:
    return (items[start : start + _BATCH] for start in range(0, len(items), _BATCH))


if __name__ == "__main__":
    main()
