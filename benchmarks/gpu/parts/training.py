"""Images a second in training a ResNet-32: the learner's loop in each of its modes, beside what there is to be had.

With a teacher and LUCIR's loss, as in a later step, at batches of 128. The bare loop has the same arithmetic on ready
batches; the captured pass is that of one batch, forward, loss and backward, replayed as one CUDA graph without the
optimiser; the kernels' own time is what the profiler adds up over the bare loop.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from accrete_learner import backbones, heads
from accrete_learner.augmentation import augment
from accrete_learner.config import ModelConfig
from accrete_learner.heads import HeadChoice
from accrete_learner.losses import Batch, CrossEntropy, LessForget, MarginRanking
from accrete_learner.training.loop import TrainingSet, train
from accrete_learner.training.network import Network
from accrete_learner.training.schedule import Schedule
from benchmarks.gpu.record import Record
from benchmarks.gpu.settings import Settings
from benchmarks.lone_step import images
from benchmarks.report import Row, median_row

CLASSES = 60
OLD = 50
_TERMS = (CrossEntropy(), LessForget(), MarginRanking())
BOUND_CELL = "captured pass, bfloat16"
LOOPS = {
    "ours, float32": ("float32", False),
    "ours, bfloat16": ("bfloat16", False),
    "ours, bfloat16, compile": ("bfloat16", True),
}


@dataclass(frozen=True, kw_only=True)
class Size:
    """Of one measurement."""

    network: ModelConfig
    batch: int
    batches: int
    """Of one round."""
    rounds: int


def size(settings: Settings) -> Size:
    """Return the papers' network and batch, or the rehearsal's."""
    if settings.tiny:
        return Size(network=ModelConfig(backbone="resnet8"), batch=8, batches=2, rounds=2)
    return Size(network=ModelConfig(), batch=128, batches=200, rounds=3)


def run(record: Record, settings: Settings) -> None:
    """Measure each loop in a cell of its own."""
    what = size(settings)
    for name, (precision, compiled) in LOOPS.items():
        if compiled and not settings.on_gpu:
            continue
        needs = 60.0 if compiled else 0.0
        record.cell(name, partial(_ours, settings, what, precision, compiled), needs_s=needs)
        if name == "ours, bfloat16":
            for bound in ("float32", "bfloat16"):
                record.cell(f"bare loop, {bound}", partial(_bare, settings, what, bound))
            record.cell("batches of one size, bfloat16", partial(_even, settings, what))
            if settings.on_gpu:
                record.cell(BOUND_CELL, partial(_captured, settings, what))
                record.cell("kernels, bfloat16", partial(_kernels, settings, what))
    if settings.on_gpu:
        record.cell("bounds", partial(_bounds, record))
    else:
        record.note("no CUDA: neither a compiled loop nor captured graphs nor the kernels' time")
    record.note(
        "the learner has no captured graphs of its own: on a GPU, training.compile asks torch.compile for them "
        "(mode reduce-overhead); the captured pass here is the benchmark's"
    )


def _bounds(record: Record) -> Iterator[Row]:
    """The learner's best loop over the captured pass."""
    captured = record.values(BOUND_CELL)
    rates = {name: record.values(name).get("images/s", 0.0) for name in LOOPS}
    if not captured or not any(rates.values()):
        raise ValueError("neither can be compared: one of them was not measured")
    best = max(rates, key=lambda name: rates[name])
    ratio = rates[best] / captured["images/s"]
    yield Row(name=f"{best}, over the captured pass", value=ratio, unit="times", bound=">= 0.5")


def networks(settings: Settings, network: ModelConfig, precision: str) -> tuple[Network, Network]:
    """Return a network of `CLASSES` classes on the device, and its teacher of the first `OLD` ones."""
    generator = torch.Generator(settings.device).manual_seed(1)
    backbone = backbones.build(network, generator=generator).to(settings.device).to(memory_format=torch.channels_last)
    grow = partial(heads.grow, feature_length=backbone.feature_length, generator=generator)
    choice = HeadChoice(kind="cosine")
    parent = grow(choice, None, class_count=OLD).export()
    autocast = precision == "bfloat16"
    teacher = Network(backbone, heads.restore(parent), autocast=autocast).teacher()
    return Network(backbone, grow(choice, parent, class_count=CLASSES), autocast=autocast), teacher


def data(settings: Settings, count: int) -> TrainingSet:
    """Return noise with labels by turns, on the device."""
    x, y = images(count, CLASSES)
    x, y = x.to(settings.device), y.to(settings.device)
    return TrainingSet(x=x, y=y, fresh=y >= OLD)


def _ours(settings: Settings, what: Size, precision: str, compiled: bool, odd: int = 1) -> Iterator[Row]:
    """The learner's loop. A phase seldom divides by the batch, so that there are batches of two sizes."""
    network, teacher = networks(settings, what.network, precision)
    if compiled:
        network.compile(mode="reduce-overhead")  # as the learner does it
        teacher.compile(mode="reduce-overhead")
    count = what.batch * what.batches - odd
    examples = data(settings, count)

    def epoch() -> None:
        train(
            network,
            examples,
            _TERMS,
            Schedule(epochs=1, learning_rate=0.1, batch_size=what.batch),
            augmentation=augment.build("auto"),
            generator=torch.Generator(settings.device).manual_seed(1),
            report=lambda *_: None,
            teacher=teacher,
        )

    yield from _rates(settings, what, count, epoch)


def _even(settings: Settings, what: Size) -> Iterator[Row]:
    """The same with batches of one size, of which a captured or compiled graph needs one alone."""
    yield from _ours(settings, what, "bfloat16", compiled=False, odd=0)


def _bare(settings: Settings, what: Size, precision: str) -> Iterator[Row]:
    step = bare_step(settings, what, precision)

    def epoch() -> None:
        for _ in range(what.batches):
            step()

    yield from _rates(settings, what, what.batch * what.batches, epoch)


def bare_step(settings: Settings, what: Size, precision: str) -> Callable[[], None]:
    """Return one batch's forward, loss, backward and update on images that are ready."""
    network, teacher = networks(settings, what.network, precision)
    network.train()
    examples = data(settings, what.batch)
    prepared = network.backbone.prepare(examples.x)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.01, momentum=0.9, weight_decay=5e-4)

    def step() -> None:
        loss = loss_of(network, teacher, prepared, examples)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()

    return step


def loss_of(network: Network, teacher: Network, prepared: Tensor, examples: TrainingSet) -> Tensor:
    """Return LUCIR's loss of one batch, as the learner's loop computes it."""
    features, scores = network(prepared)
    with torch.no_grad():
        teacher_features, teacher_scores = teacher(prepared)
    batch = Batch(
        features=features,
        scores=scores,
        rows=network.head.weight,
        labels=examples.y,
        fresh=examples.fresh,
        class_counts=examples.y.new_ones(len(network.rows)),  # no term here asks, and to count waits for the device
        old_count=OLD,
        blocks=network.head.old_blocks,
        teacher_features=teacher_features,
        teacher_scores=teacher_scores,
        teacher_rows=teacher.rows,
    )
    return torch.stack([term(batch) for term in _TERMS]).sum()


def _captured(settings: Settings, what: Size) -> Iterator[Row]:
    """One pass as a CUDA graph, checked against the same pass without: its gradients, after the weights have moved."""
    network, teacher = networks(settings, what.network, "bfloat16")
    network.train()
    examples = data(settings, what.batch)
    prepared = network.backbone.prepare(examples.x)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]

    def eager() -> Tensor:
        for parameter in trained:
            parameter.grad = None
        loss = loss_of(network, teacher, prepared, examples)
        torch.autograd.backward(loss)
        return loss.detach()

    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            eager()
    torch.cuda.current_stream().wait_stream(stream)
    for parameter in trained:
        parameter.grad = None
    graph = torch.cuda.CUDAGraph()
    started = time.perf_counter()
    with torch.cuda.graph(graph):
        loss = loss_of(network, teacher, prepared, examples)
        torch.autograd.backward(loss)
    torch.cuda.synchronize()
    yield Row(name="capture", value=time.perf_counter() - started, unit="s")
    static = [parameter.grad for parameter in trained]
    graph.replay()
    first = float(loss)
    with torch.no_grad():
        for parameter in trained:
            parameter.add_(0.05 * torch.randn_like(parameter) * parameter.abs().mean())
    graph.replay()
    replayed = [torch.clone(gradient) for gradient in static if gradient is not None]
    difference = _difference(float(loss), replayed, eager, trained)
    yield Row(name="loss moved with weights changed in place", value=abs(float(loss) - first), unit="")
    yield Row(name="gradients, replayed against eager, relative", value=difference, unit="", bound="<= 0.05")

    def replays() -> None:
        for _ in range(what.batches):
            graph.replay()

    yield from _rates(settings, what, what.batch * what.batches, replays)


def _difference(loss: float, replayed: list[Tensor], eager: Callable[[], Tensor], trained: Sequence[Tensor]) -> float:
    """Return the larger relative difference, of the losses and of all gradients as one vector."""
    wanted_loss = float(eager())
    wanted = torch.cat([parameter.grad.flatten() for parameter in trained if parameter.grad is not None])
    got = torch.cat([gradient.flatten() for gradient in replayed])
    apart = float((got - wanted).norm() / wanted.norm())
    found = max(apart, abs(loss - wanted_loss) / abs(wanted_loss))
    return found if math.isfinite(found) else 1e9


def _kernels(settings: Settings, what: Size) -> Iterable[Row]:
    """Time that the device computes for one batch of the bare loop, and how many kernels that is."""
    from torch.profiler import ProfilerActivity, profile

    step = bare_step(settings, what, "bfloat16")
    for _ in range(5):
        step()
    torch.cuda.synchronize()
    count = 10
    with profile(activities=[ProfilerActivity.CUDA]) as found:
        for _ in range(count):
            step()
        torch.cuda.synchronize()
    rows = [event for event in found.key_averages() if event.self_device_time_total > 0]
    seconds = sum(event.self_device_time_total for event in rows) / 1e6 / count
    return [
        Row(name="kernels' own time a batch", value=1000 * seconds, unit="ms"),
        Row(name="kernels a batch", value=sum(event.count for event in rows) / count, unit=""),
        Row(name="images/s if there were nothing else", value=what.batch / seconds, unit="images/s"),
    ]


def _rates(settings: Settings, what: Size, count: int, epoch: Callable[[], None]) -> Iterator[Row]:
    """Rows of so many images an `epoch`: its first, which compiles, and the median of the others; memory."""
    if settings.on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    found = []
    for number in range(what.rounds + 1):
        started = time.perf_counter()
        epoch()
        if settings.on_gpu:
            torch.cuda.synchronize()
        seconds = time.perf_counter() - started
        if number == 0:
            yield Row(name="first round", value=seconds, unit="s")
        else:
            found.append(count / seconds)
    yield median_row("images/s", found, "images/s")
    if settings.on_gpu:
        yield Row(name="memory at most", value=torch.cuda.max_memory_allocated() / 2**20, unit="MiB")
