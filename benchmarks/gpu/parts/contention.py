"""p99 of Predict while a step trains on the same device: as it is, with `server.p99_target_ms`, and by stream priority.

A real node with a ResNet-32 whose trainer trains a step without an end; for the idle rounds its process is stopped.
Two processes on one device take turns by the driver's time slices, to which stream priorities mean nothing; so the last
cell has training on a thread beside the engine, once on an equal stream and once on one of lower priority.
"""

from __future__ import annotations

import os
import shutil
import signal
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial

import numpy as np
import torch

from accrete import Progress
from accrete_learner.torch_engine import TorchEngine
from accrete_model.config import EngineConfig
from accrete_model.reader import read_artifact
from benchmarks.gpu.models import artifact, served
from benchmarks.gpu.parts import training
from benchmarks.gpu.parts.serving import percentiles
from benchmarks.gpu.record import Record
from benchmarks.gpu.settings import Settings
from benchmarks.halves import halves, on
from benchmarks.isolation import teach_endless_step
from benchmarks.lone_server import request
from benchmarks.node import Node
from benchmarks.noise import noise
from benchmarks.open_loop import Outcome, Traffic
from benchmarks.open_loop import run as send
from benchmarks.report import Row, median_row
from benchmarks.waiting import until

_IN_FLIGHT = 32
PLAIN, TARGET = "node, no target", "node, p99 target"


def run(record: Record, settings: Settings) -> None:
    """Measure each way in a cell."""
    if settings.tiny:
        record.cell(TARGET, partial(_node, record, settings, 50.0))
        record.cell("one process", partial(_threads, record, settings))
        return
    needs = 40.0
    record.cell(PLAIN, partial(_node, record, settings, 0.0), needs_s=needs)
    idle = record.values(PLAIN).get("p99, trainer stopped", 0.0)
    if idle:
        record.cell(TARGET, partial(_node, record, settings, max(1.0, round(1.3 * idle, 1))), needs_s=needs)
    record.cell("one process", partial(_threads, record, settings))


def _node(record: Record, settings: Settings, target_ms: float) -> Iterator[Row]:
    rounds, seconds = (1, 0.4) if settings.tiny else (4, 2.0)
    folder = settings.work / f"contention-{'target' if target_ms else 'plain'}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    theirs, ours = halves()
    chosen = _chosen(settings, target_ms)
    node = Node(folder, settings=chosen)
    with on(theirs):
        node.start()
    try:
        trainer = teach_endless_step(node)
        image = str(request(folder, 1, next(iter(served(settings).values()))))

        def calls(**what: float) -> Outcome:
            return send(Traffic(address=node.address, request=image, seconds=seconds, **what), ours)  # type: ignore[arg-type]

        with _stopped(trainer):
            calls(in_flight=_IN_FLIGHT)
            peak = calls(in_flight=_IN_FLIGHT).answered(0.25 * seconds, seconds)
            idle = [_p99(calls(rate=peak / 2, seed=number)) for number in range(rounds)]
        yield Row(name="peak, trainer stopped", value=peak, unit="/s")
        yield median_row("p99, trainer stopped", idle, "ms")
        calls(rate=peak / 2)  # until the trainer's share has settled
        epochs = _epochs(node)
        began, busy = time.perf_counter(), [_p99(calls(rate=peak / 2, seed=number)) for number in range(rounds)]
        beside = (_epochs(node) - epochs) / (time.perf_counter() - began)
        yield median_row("p99, a step trains", busy, "ms")
        ratio = statistics.median(busy) / statistics.median(idle)
        yield Row(name="p99, training over stopped", value=ratio, unit="x", bound="<= 1.5" if target_ms else "")
        epochs, began = _epochs(node), time.perf_counter()
        time.sleep(rounds * seconds)
        alone = (_epochs(node) - epochs) / (time.perf_counter() - began)
        yield Row(name="training, epochs/s beside calls", value=beside, unit="/s")
        yield Row(name="training, epochs/s without calls", value=alone, unit="/s")
        if target_ms:
            yield Row(name="target", value=target_ms, unit="ms")
    except Exception:
        record.note(f"the node's log: {node.log()[-3000:]}")
        raise
    finally:
        node.stop()


def _chosen(settings: Settings, target_ms: float) -> dict[str, str]:
    network = next(iter(served(settings).values()))
    return {
        "model.backbone": network.backbone,
        "model.input_size": str(network.input_size),
        "model.channels": "3",
        "engine.engine": "torch" if settings.on_gpu else "onnxruntime",  # that one is rehearsed in `serving`
        "engine.device": settings.device,
        "training.device": settings.device,
        "training.base_epochs": "1",
        "training.epochs": "100000",
        "training.batch_size": "128",
        "server.p99_target_ms": str(target_ms),
        "server.concurrency": "2" if settings.tiny else "8",
    }


def _epochs(node: Node) -> float:
    """Return how many epochs the step has behind it, once the learner tells the next ones."""
    with node.client() as client:
        for event in client.watch(timeout=10):
            if isinstance(event, Progress):
                return float(event.done)
    raise RuntimeError("the node's events have ended")


def _p99(outcome: Outcome) -> float:
    answered = outcome.latencies_ms("OK")
    if not answered:
        raise RuntimeError(f"no call was answered: {outcome.count()}")
    return float(np.percentile(answered, 99))


@contextmanager
def _stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _threads(record: Record, settings: Settings) -> Iterator[Row]:
    """The engine, called a hundred times a second, beside training on a thread of its own."""
    seconds = 0.4 if settings.tiny else 4.0
    network = next(iter(served(settings).values()))
    config = EngineConfig(engine="torch", device=settings.device)  # type: ignore[arg-type]
    engine = TorchEngine(read_artifact(artifact(settings, network)), config)
    batch = noise(1, network.input_shape)
    ways: dict[str, int | None] = {"alone": None, "training on an equal stream": 0}
    if settings.on_gpu:
        ways["training on a stream of lower priority"] = 1
    for name, priority in ways.items():
        enough, steps = threading.Event(), [0]
        thread = threading.Thread(target=_train, args=(settings, priority, enough, steps))
        if priority is not None:
            thread.start()
            until(partial(_is_at_work, steps), what="training")
        try:
            before, began = steps[0], time.perf_counter()
            took = _every_10_ms(engine, batch, seconds)
            rate = (steps[0] - before) / (time.perf_counter() - began)
        finally:
            enough.set()
            if priority is not None:
                thread.join()
        yield from percentiles(name, took)
        yield Row(name=f"{name}: training", value=rate, unit="batches/s")
    engine.close()
    record.note("one process: both share the interpreter's lock, which two processes do not")


def _is_at_work(steps: list[int]) -> bool:
    return steps[0] > 2


def _every_10_ms(engine: TorchEngine, batch: np.ndarray, seconds: float) -> list[float]:
    # The engine's calls go to a stream of high priority; without one named, all of a process's work has the same.
    stream = torch.cuda.Stream(priority=-1) if engine.on_gpu else None  # type: ignore[no-untyped-call]
    found = []
    with torch.cuda.stream(stream) if stream is not None else nullcontext():
        for _ in range(int(seconds / 0.01)):
            started = time.perf_counter()
            engine.run(batch)
            found.append(1000 * (time.perf_counter() - started))
            time.sleep(max(0.0, 0.01 - (time.perf_counter() - started)))
    return found


def _train(settings: Settings, priority: int | None, enough: threading.Event, steps: list[int]) -> None:
    step = training.bare_step(settings, training.size(settings), "bfloat16")
    # Equal: the engine's priority, -1; lower: the default, 0.
    stream = torch.cuda.Stream(priority=-1 if priority == 0 else 0) if settings.on_gpu else None  # type: ignore[no-untyped-call]
    with torch.cuda.stream(stream) if stream is not None else nullcontext():
        while not enough.is_set():
            step()
            if stream is not None and steps[0] % 4 == 0:
                stream.synchronize()  # a long queue of launched work would hide what priorities do
            steps[0] += 1
