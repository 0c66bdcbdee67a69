"""Single-image requests per second of Accrete and of other Python model servers, side by side.

The same ResNet-32 graph under the same ONNX Runtime settings, 16 callers, everything of a server on one half of the
cores and the callers on the other. Each server in turn, round by round, so that what else the machine does falls on
all. Each is configured as its own documentation advises for a small model on a CPU: one process that computes a core,
no batching (it gains nothing on a CPU), access logs off. MLServer and Accrete are also asked with the same message.
"""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from accrete.inference import service_pb2
from accrete.v1 import prediction_pb2, types_pb2
from benchmarks.digits import scans_by_label
from benchmarks.halves import SETTINGS, halves, on
from benchmarks.node import Node, cpu_s, descendants
from benchmarks.peers.callers import Asking, run
from benchmarks.peers.systems import PEERS, Peer, Running, install
from benchmarks.report import Row, arguments, machine, median_row, show

_CALLERS = 16
_OURS = "/accrete.v1.Prediction/Predict"
_OPEN = "/inference.GRPCInferenceService/ModelInfer"


@dataclass(kw_only=True)
class Found:
    """Of one server; a value a round."""

    rate: list[float] = field(default_factory=list)
    """Answers per second."""
    cpu_ms: list[float] = field(default_factory=list)
    """Of all its processes, an answer."""
    p99_ms: list[float] = field(default_factory=list)
    failed: int = 0


def main() -> None:
    """Run the benchmark. The exit status is 1 when the bound is not kept."""
    parser = arguments(__doc__ or "")
    parser.add_argument(
        "--environments",
        type=Path,
        default=Path(tempfile.gettempdir()) / "accrete-peers",
        metavar="DIR",
        help="where the peers are installed, from the package index, when they are not there yet (gigabytes)",
    )
    parsed = parser.parse_args()
    programs = {peer.name: install(peer, parsed.environments) for peer in PEERS}
    facts = machine() | {peer.name: _version(peer, parsed.environments) for peer in PEERS}
    with tempfile.TemporaryDirectory(prefix="accrete-peers-") as folder:
        rounds, seconds = (1, 2.0) if parsed.short else (5, 8.0)
        rows = measure(Path(folder), programs, rounds=rounds, seconds=seconds)
    show(rows, facts, parsed.json)
    raise SystemExit(any(row.ok is False for row in rows))


def measure(folder: Path, programs: dict[str, Path], *, rounds: int, seconds: float) -> list[Row]:
    """Teach a node, give the peers its graph, and ask all of them."""
    theirs, ours = halves()
    found = {name: Found() for name in ("accrete", "accrete, open inference", *programs)}
    with on(theirs):
        node = _node(folder, len(theirs))
    model, bodies = _model(node, folder), _bodies(folder)
    for number in range(rounds):
        with _running(node, theirs) as pid:
            for name, path, body in (("accrete", _OURS, "ours"), ("accrete, open inference", _OPEN, "open")):
                asking = _asking(node.address, path, bodies[body], "grpc", seconds)
                _ask(asking, pid, found[name], ours)
        for peer in PEERS:
            body = {"grpc": "open", "application/json": "json"}.get(peer.content_type, "raw")
            running = Running(peer, programs[peer.name], folder / f"{peer.name}-{number}", model, theirs)
            try:
                asking = _asking(running.address, peer.path, bodies[body], peer.content_type, seconds)
                running.wait_ready(asking)
                _ask(asking, running.process.pid, found[peer.name], ours)
            finally:
                running.stop()
    return _rows(found)


def _node(folder: Path, concurrency: int) -> Node:
    """Taught two classes; stopped."""
    node = Node(folder, settings=SETTINGS | {"server.concurrency": str(concurrency)})
    node.start()
    try:
        with node.client() as client:
            client.wait_ready(60)
            scans = scans_by_label()
            report = client.add_examples((label, scan) for label in "01" for scan in scans[label][:40])
            client.wait_learned(report.ids, timeout=120)
            client.pause()
    finally:
        node.stop()
    return node


@contextmanager
def _running(node: Node, cores: set[int]) -> Iterator[int]:
    """Yield the process that all of the node's are below."""
    with on(cores):
        node.start()
    try:
        with node.client() as client:
            client.wait_ready(60)
        assert node.process is not None
        yield node.process.pid
    finally:
        node.stop()


def _model(node: Node, folder: Path) -> Path:
    """Return the graph and head of the node's version, as files that the peers read."""
    model = folder / "model"
    model.mkdir()
    version = node.data_dir / "versions" / "v000001"
    shutil.copy(version / "graph.onnx", model)
    head = load_file(version / "head.safetensors")
    np.save(model / "rows.npy", next(value for name, value in sorted(head.items()) if value.ndim == 2))
    return model


def _bodies(folder: Path) -> dict[str, Path]:
    """Return one image of 32 x 32 x 3 bytes in each form that it travels in."""
    pixels = np.random.default_rng(1993).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    raw = pixels.tobytes()
    tensor = types_pb2.Tensor(dtype=types_pb2.Tensor.UINT8, shape=pixels.shape[1:], data=raw)
    request = prediction_pb2.PredictRequest(images=[types_pb2.Image(tensor=tensor)])
    given = service_pb2.ModelInferRequest.InferInputTensor(name="image", datatype="UINT8", shape=pixels.shape)
    infer = service_pb2.ModelInferRequest(model_name="accrete", inputs=[given], raw_input_contents=[raw])
    forms = {
        "raw": raw,
        "json": json.dumps({"image": base64.b64encode(raw).decode()}).encode(),
        "ours": request.SerializeToString(),
        "open": infer.SerializeToString(),
    }
    for name, body in forms.items():
        (folder / f"body-{name}").write_bytes(body)
    return {name: folder / f"body-{name}" for name in forms}


def _asking(address: str, path: str, body: Path, content_type: str, seconds: float) -> Asking:
    return Asking(
        address=address, path=path, body=str(body), content_type=content_type, callers=_CALLERS, seconds=seconds
    )


def _ask(asking: Asking, pid: int, found: Found, cores: set[int]) -> None:
    run(replace(asking, seconds=asking.seconds / 4), cores)  # warm
    before = _spent_s(pid)
    told = run(asking, cores)
    found.cpu_ms.append(1000 * (_spent_s(pid) - before) / max(1, told.answers) * told.seconds / asking.seconds)
    found.rate.append(told.answers / told.seconds)
    found.p99_ms.append(float(np.percentile(told.latencies_ms, 99)) if told.latencies_ms else float("nan"))
    found.failed += told.failed


def _spent_s(pid: int) -> float:
    """Processor time of a process and all below it."""
    seconds = 0.0
    for one in (pid, *descendants(pid)):
        with contextlib.suppress(OSError):  # ended meanwhile
            seconds += cpu_s(one)
    return seconds


def _rows(found: dict[str, Found]) -> list[Row]:
    rows = []
    for name, one in found.items():
        rows += [
            median_row(f"{name}: single-image requests, {_CALLERS} callers", one.rate, "/s"),
            median_row(f"{name}: CPU of all its processes an answer", one.cpu_ms, "ms"),
            median_row(f"{name}: p99", one.p99_ms, "ms"),
        ]
    best = max(PEERS, key=lambda peer: statistics.median(found[peer.name].rate)).name
    over = [mine / theirs for mine, theirs in zip(found["accrete"].rate, found[best].rate, strict=True)]
    same = zip(found["accrete, open inference"].rate, found["mlserver"].rate, strict=True)
    return [
        *rows,
        median_row(f"accrete over the best of the others ({best})", over, "x", ">= 2"),
        median_row("the same message: accrete over mlserver", [mine / theirs for mine, theirs in same], "x"),
        Row(name="calls that failed, all servers", value=sum(one.failed for one in found.values()), unit=""),
    ]


def _version(peer: Peer, environments: Path) -> str:
    package = peer.name
    found = sorted((environments / peer.name / "lib").glob(f"*/site-packages/{package}-*.dist-info"))
    return found[-1].name.removesuffix(".dist-info") if found else "?"


if __name__ == "__main__":
    main()
