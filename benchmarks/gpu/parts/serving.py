"""The PyTorch engine alone, then the server around it: images a second, latency, and what a call costs the host.

Requests of 64 images with 16 calls in flight, and of one image at 16, 64 and 256. The engine's own rate is that of one
thread which does nothing else, at the same batch.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from accrete_learner.config import ModelConfig
from accrete_learner.torch_engine import TorchEngine
from accrete_model.config import EngineConfig
from accrete_model.reader import read_artifact
from benchmarks.gpu.models import artifact, served
from benchmarks.gpu.record import Record
from benchmarks.gpu.settings import Settings
from benchmarks.halves import halves
from benchmarks.lone_server import LoneServer, lone_server, request
from benchmarks.noise import noise
from benchmarks.open_loop import Traffic
from benchmarks.open_loop import run as send
from benchmarks.report import Row

IMAGES = 64
CALLERS = (16, 64, 256)


def run(record: Record, settings: Settings) -> None:
    """Measure each network, engine and server in cells of their own."""
    for name, network in served(settings).items():
        for graphs in (True, False) if settings.on_gpu else (False,):
            cell = f"{name}: engine{', captured graphs' if graphs else ', eager'}"
            record.cell(cell, partial(_engine, settings, network, graphs))
        record.cell(
            f"{name}: server", partial(_server, record, settings, name, network), needs_s=settings.on_gpu * 25.0
        )


def _engine(settings: Settings, network: ModelConfig, graphs: bool) -> Iterator[Row]:
    seconds = 0.1 if settings.tiny else 2.0
    config = EngineConfig(engine="torch", device=settings.device)  # type: ignore[arg-type]
    started = time.perf_counter()
    engine = TorchEngine(read_artifact(artifact(settings, network)), config, graphs=graphs)
    yield Row(name="from the folder to the device", value=time.perf_counter() - started, unit="s")
    if graphs and not engine.name.endswith("graphs"):
        raise RuntimeError("the backbone was not captured; the log says why")
    try:
        for images in (1, 8, IMAGES):
            yield from _rate(partial(engine.run, noise(images, network.input_shape)), images, seconds)
        if settings.on_gpu:
            yield Row(name="device memory", value=torch.cuda.max_memory_allocated() / 2**20, unit="MiB")
            if not graphs:
                yield from _device_alone(engine, noise(IMAGES, network.input_shape))
    finally:
        engine.close()


def _rate(call: Callable[[], Any], images: int, seconds: float) -> Iterator[Row]:
    for _ in range(3):
        call()
    took: list[float] = []
    began, cpu = time.perf_counter(), time.process_time()
    while (now := time.perf_counter()) - began < seconds:
        call()
        took.append(1000 * (time.perf_counter() - now))
    rate = len(took) * images / (time.perf_counter() - began)
    cpu_ms = 1000 * (time.process_time() - cpu) / len(took)
    yield Row(name=rate_name(images), value=rate, unit="images/s")
    yield from percentiles(f"batches of {images}", took)
    yield Row(name=f"batches of {images}: host CPU a call", value=cpu_ms, unit="ms")


def rate_name(images: int) -> str:
    """Return the name of the row with the engine's rate."""
    return f"batches of {images}"


def percentiles(what: str, milliseconds: list[float]) -> Iterator[Row]:
    """Yield p50 and p99."""
    for share in (50, 99):
        yield Row(name=f"{what}: p{share}", value=float(np.percentile(milliseconds, share)), unit="ms")


def _device_alone(engine: TorchEngine, batch: NDArray[Any]) -> Iterator[Row]:
    """What the device takes for a pass on images that lie there, in the weights' order and in the images' own."""
    backbone = engine._backbone
    x = torch.from_numpy(batch).cuda()
    for order in (torch.contiguous_format, torch.channels_last):
        backbone.to(memory_format=order)
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        with torch.inference_mode():
            for number in range(25):
                if number == 5:
                    begin.record()
                backbone(x)
            end.record()
        torch.cuda.synchronize()
        rate = 20 * len(batch) / (begin.elapsed_time(end) / 1000)
        yield Row(name=f"device alone, batches of {len(batch)}, {order}", value=rate, unit="images/s")


def _server(record: Record, settings: Settings, name: str, network: ModelConfig) -> Iterator[Row]:
    seconds = 0.3 if settings.tiny else 3.0
    folder = settings.work / "serving" / f"{network.backbone}-{network.input_size}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    chosen = {
        "engine.engine": "torch",
        "engine.device": settings.device,
        "model.backbone": network.backbone,
        "model.input_size": str(network.input_size),
        "server.queue": "512",
        "server.concurrency": "2" if settings.tiny else "8",
    }
    server_cores, our_cores = halves()
    with lone_server(folder, server_cores, settings=chosen, model=network) as server:
        yield Row(name="from its start to its first answer", value=server.ready_s, unit="s")
        callers = CALLERS[:1] if settings.tiny else CALLERS
        yield from _traffic(server, request(folder, IMAGES, network), IMAGES, 16, seconds, our_cores)
        own = _own_rate(record, settings, name)
        if own:
            rate = record.row_value(f"{name}: server", f"{IMAGES} images, 16 callers")
            yield Row(
                name=f"{IMAGES} images, over the engine's own rate", value=rate / own, unit="times", bound=">= 0.9"
            )
        for count in callers:
            yield from _traffic(server, request(folder, 1, network), 1, count, seconds, our_cores)


def _own_rate(record: Record, settings: Settings, name: str) -> float:
    """Return the engine's rate at 64 images, by the faster of its two ways; 0 when it was not measured."""
    ways = (f"{name}: engine, captured graphs", f"{name}: engine, eager")
    return max(record.values(way).get(rate_name(IMAGES), 0.0) for way in ways)


def _traffic(
    server: LoneServer, message: Path, images: int, callers: int, seconds: float, cores: set[int]
) -> Iterator[Row]:
    what = Traffic(
        address=server.address, request=str(message), in_flight=callers, seconds=0.5 + seconds, deadline_s=60.0
    )
    before = server.cpu_s()
    found = send(what, cores)
    cpu_s = server.cpu_s() - before
    count = found.count()
    name = f"{images} image{'s' if images > 1 else ''}, {callers} callers"
    yield Row(name=name, value=images * found.answered(0.5, 0.5 + seconds), unit="images/s")
    yield from percentiles(name, found.latencies_ms("OK", since=0.5) or [float("nan")])
    yield Row(name=f"{name}: host CPU a call", value=1000 * cpu_s / max(1, count["OK"]), unit="ms")
    yield Row(name=f"{name}: sender's CPU", value=found.cpu_s / (0.5 + seconds), unit="cores")
    yield Row(name=f"{name}: not answered", value=count.total() - count["OK"], unit="", bound="<= 0")
