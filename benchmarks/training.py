"""How fast a step trains beside two other loops with the same network, batch and cores, and what more classes cost it.

The straightforward loop is what the papers' codes share: images as PIL objects, transformed one by one in workers of a
DataLoader, float32, channels first. The bare loop is ours without all that is not arithmetic: ready batches, no
augmentation, no report. Rounds of all are interleaved, so that a noisy machine is noisy for all.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from accrete_learner import backbones, heads
from accrete_learner.augmentation import augment
from accrete_learner.backbones.cifar import CIFAR_MEAN, CIFAR_STD, resnet32
from accrete_learner.config import ModelConfig
from accrete_learner.heads import HeadChoice
from accrete_learner.losses import CrossEntropy, LessForget, MarginRanking
from accrete_learner.training.loop import TrainingSet, train
from accrete_learner.training.network import Network
from accrete_learner.training.precision import resolve_precision
from accrete_learner.training.schedule import Schedule
from benchmarks.lone_step import Cost, first_step, images, later_step
from benchmarks.report import Row, arguments, machine, median_row, show

BATCH = 128
CLASSES = 20
WORKERS = 2


class PilImages(Dataset[tuple[Tensor, int]]):
    """Images that are turned into PIL objects and transformed one by one, as torchvision's CIFAR does."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self._x, self._y = x.numpy(), y.tolist()
        self._transform: Callable[[Any], Tensor] = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(CIFAR_MEAN, CIFAR_STD),
            ]
        )

    def __len__(self) -> int:
        return len(self._y)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self._transform(Image.fromarray(self._x[index])), self._y[index]


def straightforward(count: int) -> Iterator[float]:
    """Yield images per second for each round of `count` batches."""
    x, y = images(count * BATCH, CLASSES)
    network = nn.Sequential(resnet32(3, last_relu=True), nn.Linear(64, CLASSES)).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    loader = DataLoader(
        PilImages(x, y), batch_size=BATCH, shuffle=True, num_workers=WORKERS, persistent_workers=True, drop_last=True
    )
    while True:
        started = time.perf_counter()
        for batch, labels in loader:
            loss = F.cross_entropy(network(batch), labels)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            loss.item()
        yield len(x) / (time.perf_counter() - started)


def ours(count: int, precision: str, *, teacher: bool = False) -> Iterator[float]:
    """Yield the same through the learner's loop, with a teacher as in a later step of LUCIR."""
    x, y = images(count * BATCH, CLASSES)
    network, before = networks(precision, teacher=teacher)
    terms = (CrossEntropy(), LessForget(), MarginRanking()) if teacher else (CrossEntropy(),)
    data = TrainingSet(x=x, y=y, fresh=torch.ones(len(y), dtype=torch.bool))
    while True:
        started = time.perf_counter()
        train(
            network,
            data,
            terms,
            Schedule(epochs=1, learning_rate=0.1),
            augmentation=augment.build("auto"),
            generator=torch.Generator().manual_seed(1),
            report=lambda *_: None,
            teacher=before,
        )
        yield len(x) / (time.perf_counter() - started)


def bare(count: int, precision: str) -> Iterator[float]:
    """Yield the same for the arithmetic of `ours` alone."""
    network, _ = networks(precision, teacher=False)
    x, y = images(count * BATCH, CLASSES)
    batches = [slice(at, at + BATCH) for at in range(0, len(x), BATCH)]
    ready = [(network.backbone.prepare(x[batch]), y[batch]) for batch in batches]
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    network.train()
    while True:
        started = time.perf_counter()
        for prepared, labels in ready:
            loss = F.cross_entropy(network(prepared)[1], labels)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
        yield len(x) / (time.perf_counter() - started)


def networks(precision: str, *, teacher: bool) -> tuple[Network, Network | None]:
    """Return what trains, and its teacher of half of the classes."""
    generator = torch.Generator().manual_seed(1)
    backbone = backbones.build(ModelConfig(), generator=generator).to(memory_format=torch.channels_last)
    grow = partial(heads.grow, feature_length=backbone.feature_length, generator=generator)
    choice = HeadChoice(kind="cosine" if teacher else "linear")
    parent = grow(choice, None, class_count=CLASSES // 2).export() if teacher else None
    network = Network(backbone, grow(choice, parent, class_count=CLASSES), autocast=precision == "bfloat16")
    before = Network(backbone, heads.restore(parent), autocast=network.autocast).teacher() if parent else None
    return network, before


def throughput(rounds: int, batches: int) -> list[Row]:
    """Both loops in turn."""
    fast = resolve_precision("auto", torch.device("cpu"))
    loops = {
        "straightforward, float32": straightforward(batches),
        f"ours, {fast}": ours(batches, fast),
        "ours, float32": ours(batches, "float32"),
        f"bare, {fast}": bare(batches, fast),
        f"ours, {fast}, with a teacher and LUCIR's loss": ours(batches, fast, teacher=True),
    }
    for loop in loops.values():
        next(loop)
    found: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(rounds):
        for name, loop in loops.items():
            found[name].append(next(loop))
    slow, core = _ratios(found, fast, "straightforward, float32"), _ratios(found, fast, f"bare, {fast}")
    return [
        median_row("ours over the straightforward loop", slow, "times", ">= 2"),
        median_row("ours over the bare loop", core, "times", ">= 0.9"),
        *(median_row(name, values, "images/s") for name, values in found.items()),
    ]


def _ratios(found: dict[str, list[float]], fast: str, other: str) -> list[float]:
    return [mine / theirs for mine, theirs in zip(found[f"ours, {fast}"], found[other], strict=True)]


def step_costs(*, short: bool) -> list[Row]:
    """Return what a later step of LUCIR costs.

    That is host memory, and time against the number of old classes at a fixed exemplar memory.
    """
    rounds, plan = (1, {2_000: (100, 1_000)}) if short else (3, {2_000: (100, 1_000), 20_000: (100, 1_000, 10_000)})
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parents = {old: first_step(folder / str(old), old) for old in max(plan.values())}
        for memory, olds in plan.items():
            spent: dict[int, list[Cost]] = {old: [] for old in olds}
            for turn, old in itertools.product(range(rounds), olds):
                cost = later_step(folder / f"{memory}-{old}-{turn}", parents[old], old, memory)
                print(f"round {turn + 1}, K = {memory}, {old} old classes: {cost.seconds:.1f} s", flush=True)
                spent[old].append(cost)
            rows += _of_memory(memory, spent)
    return rows


def _of_memory(memory: int, spent: dict[int, list[Cost]]) -> list[Row]:
    fewest, most = min(spent), max(spent)
    flat = [many.seconds / few.seconds for many, few in zip(spent[most], spent[fewest], strict=True)]
    peak = max(cost.peak_kb for costs in spent.values() for cost in costs) / 2**20
    return [
        Row(
            name=f"host memory of a step, K = {memory}", value=peak, unit="GB", bound="<= 2" if memory <= 2_000 else ""
        ),
        *(
            median_row(f"a step, K = {memory}, {old} old classes", [cost.seconds for cost in costs], "s")
            for old, costs in spent.items()
        ),
        median_row(f"a step, K = {memory}, {most} old classes over {fewest}", flat, "times", "<= 1.2"),
    ]


def main() -> None:
    """Run the benchmark."""
    parsed = arguments(__doc__ or "").parse_args()
    found = machine()
    print("training loops, by turns", flush=True)
    rows = throughput(rounds=3 if parsed.short else 9, batches=4 if parsed.short else 12)
    rows += step_costs(short=parsed.short)
    show(rows, found, parsed.json)


if __name__ == "__main__":
    main()
