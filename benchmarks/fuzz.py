"""Malformed and hostile requests to a running node: it goes on answering correctly, and each error is documented.

A request is made again by `python -m benchmarks.fuzz --seed SEED --only NUMBER`.
"""

from __future__ import annotations

import itertools
import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from accrete import Client, Prediction
from accrete.v1 import teaching_pb2
from benchmarks.digits import scans_by_label
from benchmarks.hostile.requests import ADD, STREAM, Hostile, hostile
from benchmarks.node import Node, resident_bytes
from benchmarks.report import Row, arguments, machine, show
from benchmarks.waiting import until

DOCUMENTED = frozenset(
    {
        "OK", "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED",
        "CANCELLED", "UNIMPLEMENTED", "ALREADY_EXISTS",
    }
)  # fmt: skip
"""The codes that the contract names, and gRPC's own for a method that is none. INTERNAL and UNKNOWN are faults."""
FRONTS = ("queue", "handlers")
_THREADS = 4
_WATCHED = ("server", "store", "learner")


@dataclass(kw_only=True)
class Found:
    """What came of the requests."""

    codes: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By kind and code."""
    faults: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    """Sound pictures that were not taken, or taken for others."""
    acknowledged: int = 0
    """Examples that were answered as stored."""
    slowest_s: float = 0.0


def main() -> None:
    """Run the benchmark. The exit status is 1 when the node failed."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--requests", type=int, metavar="N", help="how many (default: 100000; with --short 3000)")
    parser.add_argument("--seed", type=int, help="of the requests (default: drawn)")
    parser.add_argument(
        "--first", type=int, default=0, metavar="NUMBER", help="begin with this request: a long run in pieces"
    )
    parser.add_argument("--front", choices=FRONTS, help="by which calls reach it (default: the server's own choice)")
    parser.add_argument("--only", type=int, metavar="NUMBER", help="this request alone")
    parsed = parser.parse_args()
    seed = random.randrange(2**31) if parsed.seed is None else parsed.seed
    count = parsed.requests or (3_000 if parsed.short else 100_000)
    numbers = range(parsed.first, parsed.first + count)
    if parsed.only is not None:
        numbers = range(parsed.only, parsed.only + 1)
    facts = machine() | {"seed": seed, "first": numbers.start, "front": parsed.front or "auto"}
    with tempfile.TemporaryDirectory(prefix="accrete-fuzz-") as folder:
        rows, found = fuzz(Path(folder), seed, numbers, {"server.front": parsed.front} if parsed.front else {})
    show(rows, facts, parsed.json)
    for (kind, code), times in sorted(found.codes.items()):
        print(f"  {kind:<24} {code:<20} {times}")
    for fault in [*found.faults[:20], *found.refused[:20]]:
        print(f"FAULT {fault}")
    raise SystemExit(any(row.ok is False for row in rows))


def fuzz(folder: Path, seed: int, numbers: range, settings: Mapping[str, str] | None = None) -> tuple[list[Row], Found]:
    """Start a node with these settings, teach it two classes, send it the requests, and look at what is left of it."""
    node = Node(
        folder, settings={"store.pending_max_examples": "1000000", "inbox.enabled": "true"} | dict(settings or {})
    )
    node.start()
    try:
        with node.client() as client:
            asked, golden = _taught(client)
            stored = client.status().pending
            pids = {name: node.pid(name) for name in _WATCHED}
            before = {name: resident_bytes(pid or 0) for name, pid in pids.items()}
            found, peak = send(node, seed, numbers)
            until(lambda: _answers(client, asked, golden), what="the same answer as before")
            left = client.status().pending - stored
            after = {name: resident_bytes(node.pid(name) or 0) for name in _WATCHED}
            restarted = sum(node.pid(name) != pid for name, pid in pids.items())
    finally:
        node.stop()
    return _rows(len(numbers), found, left, restarted, before, after, peak), found


def _taught(client: Client) -> tuple[Any, Any]:
    """Return images and the live model's answers to them."""
    client.wait_ready(60)
    scans = scans_by_label()
    report = client.add_examples((label, scan) for label in ("0", "1") for scan in scans[label][:40])
    client.wait_learned(report.ids, timeout=120)
    client.pause()
    asked = [*scans["0"][40:48], *scans["1"][40:48]]
    return asked, client.predict(asked, features=True)


def _answers(client: Client, asked: Any, golden: Any) -> bool:
    """Return whether version, features and the learned classes' shares are as before.

    Labels that the requests taught are provisional meanwhile, and are left out.
    """
    now = client.predict(asked, features=True, top_k=1000)
    return all(
        new.version == old.version
        and np.allclose(new.features, old.features, rtol=1e-4, atol=1e-4)
        and np.allclose(_shares(new), _shares(old), atol=1e-4)
        for new, old in zip(now, golden, strict=True)
    )


def _shares(prediction: Prediction) -> list[float]:
    learned = {one.label: one.probability for one in prediction.ranked if not one.provisional}
    return [learned[label] / sum(learned.values()) for label in sorted(learned)]


def send(node: Node, seed: int, numbers: range) -> tuple[Found, int]:
    """Send the requests from a few threads. Return what came back and the server's highest resident memory in bytes."""
    found, lock, peak = Found(), threading.Lock(), 0
    todo = iter(numbers)
    done = threading.Event()

    def work() -> None:
        with grpc.insecure_channel(node.address) as channel:
            while True:
                with lock:
                    number = next(todo, None)
                if number is None:
                    return
                request = hostile(seed, number)
                started = time.perf_counter()
                code, details, stored, refused = call(channel, request)
                with lock:
                    _note(found, request, number, code, details)
                    if request.sound and (code != "OK" or refused):
                        found.refused.append(f"request {number} ({request.kind}): {code}: {details or refused}")
                    if request.refused and code == "OK" and not refused:
                        found.faults.append(f"request {number} ({request.kind}): stored")
                    found.acknowledged += stored
                    found.slowest_s = max(found.slowest_s, time.perf_counter() - started)

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.2):
            pid = node.pid("server")
            peak = max(peak, resident_bytes(pid)) if pid else peak

    threads = [threading.Thread(target=work) for _ in range(_THREADS)]
    watcher = threading.Thread(target=watch)
    for thread in (*threads, watcher):
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    watcher.join()
    return found, peak


def call(channel: grpc.Channel, request: Hostile) -> tuple[str, str, int, str]:
    """Return the code and message of a request, how many examples it stored, and why one of them was refused."""
    make = channel.stream_stream(request.path, lambda data: data, lambda data: data)
    going: Any = make(iter(request.messages), timeout=request.timeout_s)
    if request.cancel:
        going.cancel()
    stored, refused, known = 0, "", 0
    try:
        for answer in going:
            results = _results(request, answer)
            stored += sum(result.outcome == teaching_pb2.ExampleResult.STORED for result in results)
            refused = next((result.reason for result in results if result.reason), refused)
            known += sum(result.outcome == teaching_pb2.ExampleResult.DUPLICATE for result in results)
    except grpc.RpcError as error:
        status: Any = error
        return status.code().name, status.details() or "", stored, refused
    if known and request.kind == "pictures that differ in little":
        refused = refused or f"{known} taken for others"
    return "OK", "", stored, refused


def _results(request: Hostile, answer: bytes) -> Sequence[teaching_pb2.ExampleResult]:
    if request.path not in (ADD, STREAM):
        return ()
    return teaching_pb2.AddExamplesResponse.FromString(answer).results


def _note(found: Found, request: Hostile, number: int, code: str, details: str) -> None:
    found.codes[request.kind, code] += 1
    if code not in DOCUMENTED:
        found.faults.append(f"request {number} ({request.kind}, {request.path}): {code}: {details}")


def _rows(
    count: int,
    found: Found,
    left: int,
    restarted: int,
    before: dict[str, int],
    after: dict[str, int],
    peak: int,
) -> list[Row]:
    mib = 1024 * 1024
    # Answers that were hung up on may have been stored: nobody was told, and sending them again would say so.
    untold = left - found.acknowledged
    memory = list(itertools.chain.from_iterable(_memory(name, before, after) for name in before))
    return [
        Row(name="requests", value=count, unit=""),
        Row(name="undocumented codes", value=len(found.faults), unit="", bound="<= 0"),
        Row(name="sound and refused", value=len(found.refused), unit="", bound="<= 0"),
        Row(name="processes that ended", value=restarted, unit="", bound="<= 0"),
        Row(name="acknowledged and not stored", value=max(0, -untold), unit="", bound="<= 0"),
        Row(name="acknowledged", value=found.acknowledged, unit="examples"),
        Row(name="stored, its answer hung up on", value=max(0, untold), unit="examples"),
        Row(name="slowest answer", value=found.slowest_s, unit="s"),
        *memory,
        Row(name="server, most resident while it went on", value=peak / mib, unit="MiB", bound="<= 700"),
    ]


def _memory(name: str, before: dict[str, int], after: dict[str, int]) -> Iterator[Row]:
    mib = 1024 * 1024
    yield Row(name=f"{name}, resident before", value=before[name] / mib, unit="MiB")
    yield Row(name=f"{name}, resident after", value=after[name] / mib, unit="MiB")


if __name__ == "__main__":
    main()
