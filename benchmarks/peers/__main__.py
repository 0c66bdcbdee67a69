"""Single-image requests per second of Accrete and of other Python model servers, side by side.

The same graph under the same ONNX Runtime settings, 16 callers, everything of a server on one half of the cores and the
callers on the other; then so many calls a second, each at its own time (open loop). Each server in turn, round by
round, so that what else the machine does falls on all. Each is configured as its own documentation advises for a
small model on a CPU: one process that computes a core, access logs off. In three forms: pixels for a ResNet-32 without
batching, the same with each server's own batching (up to eight images, 5 ms), and JPEG files of 500 pixels, decoded by
the server, for EfficientNet-Lite0. MLServer, Triton and Accrete are asked with the same message.
"""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from accrete.inference import service_pb2
from accrete.v1 import prediction_pb2, types_pb2
from accrete_learner.config import ModelConfig
from accrete_model.files import GRAPH_FILE, HEAD_FILE
from accrete_storage.config import StoreConfig
from benchmarks import photograph_files
from benchmarks.cpu_watch import CpuWatch
from benchmarks.halves import halves
from benchmarks.lone_server import RESNET32, SHAPE, published, serving
from benchmarks.node import cpu_s, descendants
from benchmarks.noise import noise
from benchmarks.peers.callers import Asking, run
from benchmarks.peers.systems import PEERS, Form, Peer, Running, install
from benchmarks.report import Row, arguments, machine, median_row, setting, show
from benchmarks.serving import PHOTOGRAPHS

_CALLERS = 16
_OPEN_CALLERS = 64
_RATES = {"pixels": 300.0, "file": 15.0}
"""Calls a second of the open loop, by the kind of image: less than half of what one core of ours answers."""
_BATCH = 8
_OURS = "/accrete.v1.Prediction/Predict"
_OPEN = "/inference.GRPCInferenceService/ModelInfer"


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
    parser.add_argument("--only", default="", metavar="NAMES", help="these peers, with commas; Accrete always")
    parser.add_argument("--photographs", type=Path, metavar="DIR", help="one from there in place of a drawn one")
    parser.add_argument("--set", action="append", default=[], metavar="S.F=V", type=setting, help="of Accrete's server")
    parsed = parser.parse_args()
    peers = [peer for peer in PEERS if not parsed.only or peer.name in parsed.only.split(",")]
    programs = {peer.name: install(peer, parsed.environments) for peer in peers}
    facts = machine() | {peer.name: _version(peer, parsed.environments) for peer in peers}
    with tempfile.TemporaryDirectory(prefix="accrete-peers-") as folder:
        rounds, seconds = (1, 1.5) if parsed.short else (3, 4.0)
        world = _World(Path(folder), programs, peers, parsed.photographs, dict(parsed.set), seconds)
        rows = measure(world, rounds=rounds)
    show(rows, facts, parsed.json)
    raise SystemExit(any(row.ok is False for row in rows))


def measure(world: _World, *, rounds: int) -> list[Row]:
    """Ask all servers in all forms, by turns."""
    with contextlib.ExitStack() as stack:
        forms = [*_pixels(world, stack), _photographs(world, stack)]
        for number in range(rounds):
            for form in forms:
                if not form.batch:
                    _ask_accrete(world, form)
                for peer in world.peers:
                    if peer.batches or not form.batch:
                        _ask_peer(world, peer, form, number)
    return _rows(world)


@dataclass(kw_only=True)
class Found:
    """Of one server in one form; a value a round."""

    rate: list[float] = field(default_factory=list)
    """Answers per second."""
    cpu_ms: list[float] = field(default_factory=list)
    """Of all its processes, an answer."""
    p99_ms: list[float] = field(default_factory=list)
    open_p50_ms: list[float] = field(default_factory=list)
    open_p99_ms: list[float] = field(default_factory=list)
    failed: int = 0
    """Of both loops."""


class _World:
    """What all of a run shares."""

    def __init__(
        self,
        folder: Path,
        programs: Mapping[str, Path],
        peers: Sequence[Peer],
        photographs: Path | None,
        settings: dict[str, str],
        seconds: float,
    ) -> None:
        self.folder = folder
        self.programs = programs
        self.peers = peers
        self.settings = settings
        self.theirs, self.ours = halves()
        self.found: dict[str, Found] = {}
        self.stores: dict[str, tuple[Path, ModelConfig, int]] = {}
        """By kind of image: the data directory, the model and the store's process."""
        self._bodies = _bodies(folder, photograph_files.small(photographs))
        self._seconds = seconds

    def ask(self, name: str, form: Form, pids: Sequence[int], asking: Asking) -> None:
        """Ask a server that runs in both loops."""
        found = self.found.setdefault(f"{name}{form.name}", Found())
        run(replace(asking, seconds=asking.seconds / 4), self.ours)  # warm
        processes = [below for pid in pids for below in (pid, *descendants(pid))]
        watch = CpuWatch(lambda: _spent_s(processes))
        with watch.watching():
            told = run(asking, self.ours)
        spent_s = watch.between(told.since, told.since + told.seconds)
        found.cpu_ms.append(1000 * spent_s / max(1, told.answers))
        found.rate.append(told.answers / told.seconds)
        found.p99_ms.append(_percentile(told.latencies_ms, 99))
        rate = _RATES[form.kind]
        opened = run(replace(asking, rate=rate, callers=_OPEN_CALLERS), self.ours)
        found.open_p50_ms.append(_percentile(opened.latencies_ms, 50))
        found.open_p99_ms.append(_percentile(opened.latencies_ms, 99))
        found.failed += told.failed + opened.failed

    def asking(self, address: str, path: str, content_type: str, form: Form, *, ours: bool = False) -> Asking:
        """Return what to send to a server, and how."""
        shape = "ours" if ours else {"grpc": "open", "application/json": "json"}.get(content_type, "raw")
        body = str(self._bodies[form.kind, shape])
        seconds, callers = self._seconds, _CALLERS
        return Asking(
            address=address, path=path, body=body, content_type=content_type, callers=callers, seconds=seconds
        )


def _pixels(world: _World, stack: contextlib.ExitStack) -> list[Form]:
    model = _published(world, stack, "pixels", RESNET32)
    plain = Form(name="", kind="pixels", side=32, model=model)
    return [plain, replace(plain, name=", its batching", batch=_BATCH)]


def _photographs(world: _World, stack: contextlib.ExitStack) -> Form:
    model = _published(world, stack, "file", PHOTOGRAPHS)
    return Form(name=", photographs", kind="file", side=224, model=model)


def _published(world: _World, stack: contextlib.ExitStack, kind: str, model: ModelConfig) -> Path:
    """Start a store with a version, and return its graph and head, as files that the peers read."""
    data_dir = world.folder / kind
    store, artifacts = stack.enter_context(published(data_dir, StoreConfig(), model=model))
    world.stores[kind] = data_dir, model, store.pid or 0
    version, folder = artifacts.path(1), world.folder / f"model-{kind}"
    folder.mkdir()
    shutil.copy(version / GRAPH_FILE, folder / "graph.onnx")
    head = load_file(version / HEAD_FILE)
    np.save(folder / "rows.npy", next(value for name, value in sorted(head.items()) if value.ndim == 2))
    return folder


def _ask_accrete(world: _World, form: Form) -> None:
    data_dir, model, store = world.stores[form.kind]
    own = {"model.backbone": model.backbone} | world.settings
    with serving(data_dir, world.theirs, own, model) as server:
        pids = (server.process.pid, store)
        for name, path, ours in (("accrete", _OURS, True), ("accrete, open inference", _OPEN, False)):
            world.ask(name, form, pids, world.asking(server.address, path, "grpc", form, ours=ours))


def _ask_peer(world: _World, peer: Peer, form: Form, number: int) -> None:
    folder = world.folder / f"{peer.name}-{form.kind}-{form.batch}-{number}"
    running = Running(peer, world.programs[peer.name], folder, form, world.theirs)
    try:
        asking = world.asking(running.address, peer.path, peer.content_type, form)
        running.wait_ready(asking)
        world.ask(peer.name, form, (running.process.pid,), asking)
    finally:
        running.stop()


def _bodies(folder: Path, photograph: bytes) -> dict[tuple[str, str], Path]:
    """Return one image, pixels of 32 x 32 x 3 or a file, in each form that it travels in."""
    pixels = noise(1, SHAPE)
    raw = pixels.tobytes()
    tensor = types_pb2.Tensor(dtype=types_pb2.Tensor.UINT8, shape=pixels.shape[1:], data=raw)
    of_pixels = service_pb2.ModelInferRequest.InferInputTensor(name="image", datatype="UINT8", shape=pixels.shape)
    of_file = service_pb2.ModelInferRequest.InferInputTensor(name="image", datatype="BYTES", shape=[1, 1])
    packed = len(photograph).to_bytes(4, "little") + photograph
    made = {}
    for kind, data, image, given, content in (
        ("pixels", raw, types_pb2.Image(tensor=tensor), of_pixels, raw),
        ("file", photograph, types_pb2.Image(encoded=photograph), of_file, packed),
    ):
        infer = service_pb2.ModelInferRequest(model_name="accrete", inputs=[given], raw_input_contents=[content])
        forms = {
            "raw": data,
            "json": json.dumps({"image": base64.b64encode(data).decode()}).encode(),
            "ours": prediction_pb2.PredictRequest(images=[image]).SerializeToString(),
            "open": infer.SerializeToString(),
        }
        for name, body in forms.items():
            made[kind, name] = folder / f"body-{kind}-{name}"
            made[kind, name].write_bytes(body)
    return made


def _spent_s(pids: Sequence[int]) -> float:
    """Processor time of processes."""
    seconds = 0.0
    for one in pids:
        with contextlib.suppress(OSError):  # ended meanwhile
            seconds += cpu_s(one)
    return seconds


def _percentile(values: Sequence[float], share: float) -> float:
    return float(np.percentile(values, share)) if values else float("nan")


def _rows(world: _World) -> list[Row]:
    rows = []
    for name, one in world.found.items():
        rate = _RATES["file" if name.endswith("photographs") else "pixels"]
        rows += [
            median_row(f"{name}: requests, {_CALLERS} callers", one.rate, "/s"),
            median_row(f"{name}: CPU of all its processes an answer", one.cpu_ms, "ms"),
            median_row(f"{name}: p99", one.p99_ms, "ms"),
            median_row(f"{name}: at {rate:g} a second, p50", one.open_p50_ms, "ms"),
            median_row(f"{name}: at {rate:g} a second, p99", one.open_p99_ms, "ms"),
        ]
    for form, bound in (("", ">= 1.5"), (", photographs", "")):
        mine = world.found[f"accrete{form}"]
        others = [name for name in world.found if name.partition(",")[0] in world.programs]
        comparable = [name for name in others if name.endswith("photographs") == bool(form)]
        if comparable:
            best = max(comparable, key=lambda name: statistics.median(world.found[name].rate))
            for told, part, keeps in (("requests/s", "rate", bound), ("CPU an answer", "cpu_ms", "")):
                theirs = getattr(world.found[best], part)
                ratios = [one / other for one, other in zip(getattr(mine, part), theirs, strict=True)]
                rows.append(
                    median_row(f"accrete{form} over the best of the others ({best}): {told}", ratios, "x", keeps)
                )
    failed = sum(one.failed for one in world.found.values())
    return [*rows, Row(name="calls that failed, all servers", value=failed, unit="")]


def _version(peer: Peer, environments: Path) -> str:
    package = peer.requirements[0].partition("==")[0].partition("[")[0].replace("-", "_")
    found = sorted((environments / peer.name / "lib").glob(f"*/site-packages/{package}-*.dist-info"))
    return found[-1].name.removesuffix(".dist-info") if found else "?"


if __name__ == "__main__":
    main()
