"""What callers with many images get: the Python client's `predict` of a thousand, and inputs in shared memory.

The server has half of the machine's cores, the caller the others. How full the client keeps the server's turns shows in
how busy the server's cores are, and in images a second over those of the engine alone at 64 images; one call at a time
(`window=1`) beside several. Then one call of 32 photographs of 224 x 224 pixels, again and again, to a network that
computes nothing: as `Predict`, and as `ModelInfer` with the pixels in the message and in shared memory.
"""

from __future__ import annotations

import asyncio
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from accrete import AsyncClient, Client
from accrete.inference import service_pb2, service_pb2_grpc
from accrete.v1 import prediction_pb2, prediction_pb2_grpc, types_pb2
from accrete_learner import backbones
from accrete_learner.config import ModelConfig
from accrete_storage.config import StoreConfig
from benchmarks import photograph_files
from benchmarks.halves import halves, on
from benchmarks.lone_server import RESNET32, SHAPE, Build, LoneServer, nothing, published, serving
from benchmarks.noise import noise
from benchmarks.report import Row, arguments, machine, median_row, show
from benchmarks.serving import PHOTOGRAPHS, Bare

_BATCH = 32
_PHOTOGRAPHS = ModelConfig(input_size=224)


@dataclass(frozen=True, kw_only=True)
class Spent:
    """By one piece of work."""

    seconds: float
    server_s: float
    """Of the server's processor."""
    caller_s: float


def main() -> None:
    """Run the benchmark. The exit status is 1 when a bound is not kept."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--photographs", type=Path, metavar="DIR", help="one from there in place of a drawn one")
    parsed = parser.parse_args()
    facts = machine()
    rounds, images, calls = (3, 500, 20) if parsed.short else (7, 1000, 100)
    with tempfile.TemporaryDirectory(prefix="accrete-batches-") as folder:
        rows = measure(Path(folder), parsed.photographs, rounds=rounds, images=images, calls=calls)
    show(rows, facts, parsed.json)
    raise SystemExit(any(row.ok is False for row in rows))


def measure(folder: Path, photographs: Path | None, *, rounds: int, images: int, calls: int) -> list[Row]:
    """Start three servers, and ask each in every way, by turns."""
    theirs, ours = halves()
    small = photograph_files.small(photographs)
    files = []
    for number in range(images // 5):
        files.append(folder / f"{number}.jpg")
        files[-1].write_bytes(small)
    with ExitStack() as stack:
        cifar = stack.enter_context(_server(folder / "cifar", theirs, RESNET32, backbones.build))
        named = {"model.backbone": PHOTOGRAPHS.backbone}
        photos = stack.enter_context(_server(folder / "photos", theirs, PHOTOGRAPHS, backbones.build, named))
        sized = {"model.input_size": "224"}
        empty = stack.enter_context(_server(folder / "empty", theirs, _PHOTOGRAPHS, nothing, sized))
        stack.enter_context(on(ours))
        rows = _full(
            f"{images} arrays", cifar, len(theirs), list(noise(images, SHAPE)), rounds, Bare(cifar.graph, theirs)
        )
        rows += _full(f"{len(files)} files of photographs", photos, len(theirs), files, rounds, None)
        rows += _shared(empty, rounds, calls)
    return rows


@contextmanager
def _server(
    data_dir: Path, cores: set[int], model: ModelConfig, build: Build, settings: dict[str, str] | None = None
) -> Iterator[LoneServer]:
    with (
        published(data_dir, StoreConfig(), model=model, build=build),
        serving(data_dir, cores, settings, model) as server,
    ):
        yield server


def _full(
    name: str, server: LoneServer, cores: int, images: Sequence[Any], rounds: int, bare: Bare | None
) -> list[Row]:
    """Return how fast each client has its images predicted, and how busy that keeps the server."""
    with Client(server.address, timeout=300) as client, asyncio.Runner() as loop:
        async_client = AsyncClient(server.address, timeout=300)
        ways: dict[str, Callable[[], object]] = {
            "one call at a time": lambda: client.predict(images, window=1),
            "predict": lambda: client.predict(images),
            "asyncio": lambda: loop.run(async_client.predict(images)),
        }
        client.predict(images[:64])  # the first call is slower than those that follow
        loop.run(async_client.predict(images[:64]))
        found: dict[str, list[Spent]] = {way: [] for way in ways}
        alone = []
        for _ in range(rounds):
            for way, ask in ways.items():
                found[way].append(_spent(server, ask))
            if bare is not None:
                alone.append(64 * bare.cost(64, 1.0).rate)
        loop.run(async_client.close())
    rows = []
    for way, own in found.items():
        told = f"{name}, {way}"
        rates = [len(images) / one.seconds for one in own]
        busy = [one.server_s / one.seconds / cores for one in own]
        bound = "" if way == "one call at a time" else ">= 0.95"
        rows += [
            median_row(f"{told}: images", rates, "/s"),
            median_row(f"{told}: the server's cores, busy", busy, "", bound if bare is None else ""),
            median_row(f"{told}: caller's CPU an image", [1e6 * one.caller_s / len(images) for one in own], "us"),
        ]
        if bare is not None:
            over = [rate / engine for rate, engine in zip(rates, alone, strict=True)]
            rows.append(median_row(f"{told}: images/s over the engine alone", over, "x", bound.replace("0.95", "0.9")))
    return rows


def _shared(server: LoneServer, rounds: int, calls: int) -> list[Row]:
    """Return what a call of 32 photographs costs by each way of its pixels."""
    batch = noise(_BATCH, _PHOTOGRAPHS.input_shape)
    region = SharedMemory(name=f"accrete-{secrets.token_hex(8)}", create=True, size=batch.nbytes)
    with grpc.insecure_channel(server.address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        predict = prediction_pb2_grpc.PredictionStub(channel).Predict
        register = service_pb2.SystemSharedMemoryRegisterRequest(name="b", key=region.name, byte_size=batch.nbytes)
        stub.SystemSharedMemoryRegister(register, timeout=60)

        def tensor() -> service_pb2.ModelInferRequest.InferInputTensor:
            return service_pb2.ModelInferRequest.InferInputTensor(name="image", datatype="UINT8", shape=batch.shape)

        def as_predict() -> None:
            kind, shape = types_pb2.Tensor.UINT8, batch.shape[1:]
            sent = [types_pb2.Tensor(dtype=kind, shape=shape, data=image.tobytes()) for image in batch]
            request = prediction_pb2.PredictRequest(images=[types_pb2.Image(tensor=one) for one in sent])
            predict(request, timeout=60)

        def in_message() -> None:
            sent = [batch.tobytes()]
            request = service_pb2.ModelInferRequest(model_name="accrete", inputs=[tensor()], raw_input_contents=sent)
            stub.ModelInfer(request, timeout=60)

        def in_shared_memory() -> None:
            np.ndarray(batch.shape, batch.dtype, region.buf)[:] = batch
            named = tensor()
            named.parameters["shared_memory_region"].string_param = "b"
            named.parameters["shared_memory_byte_size"].int64_param = batch.nbytes
            stub.ModelInfer(service_pb2.ModelInferRequest(model_name="accrete", inputs=[named]), timeout=60)

        ways = {"Predict": as_predict, "ModelInfer": in_message, "ModelInfer, shared memory": in_shared_memory}
        found: dict[str, list[Spent]] = {way: [] for way in ways}
        for ask in ways.values():
            ask()
        for _ in range(rounds):
            for way, ask in ways.items():
                found[way].append(_spent(server, partial(_repeat, ask, calls)))
        stub.SystemSharedMemoryUnregister(service_pb2.SystemSharedMemoryUnregisterRequest(), timeout=60)
    region.close()
    region.unlink()
    rows = []
    for way, own in found.items():
        told = f"{_BATCH} photographs, {way}"
        rows += [
            median_row(f"{told}: server CPU a call", [1000 * one.server_s / calls for one in own], "ms"),
            median_row(f"{told}: caller's CPU a call", [1000 * one.caller_s / calls for one in own], "ms"),
            median_row(f"{told}: a call", [1000 * one.seconds / calls for one in own], "ms"),
        ]
    pairs = list(zip(found["ModelInfer, shared memory"], found["ModelInfer"], strict=True))
    parts = (("server CPU", "server_s"), ("caller's CPU", "caller_s"), ("time", "seconds"))
    for told, part in parts:
        ratios = [getattr(one, part) / getattr(other, part) for one, other in pairs]
        rows.append(median_row(f"{_BATCH} photographs, shared memory over message: {told}", ratios, "x"))
    return rows


def _repeat(work: Callable[[], None], times: int) -> None:
    for _ in range(times):
        work()


def _spent(server: LoneServer, work: Callable[[], object]) -> Spent:
    began, ours, theirs = time.perf_counter(), time.process_time(), server.cpu_s()
    work()
    return Spent(
        seconds=time.perf_counter() - began,
        server_s=server.cpu_s() - theirs,
        caller_s=time.process_time() - ours,
    )


if __name__ == "__main__":
    main()
