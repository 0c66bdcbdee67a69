"""How fast a step trains beside a straightforward loop with the same network, batch and cores, and in how much memory.

The straightforward loop is what the papers' codes share: images as PIL objects, transformed one by one in workers of a
DataLoader, float32, channels first. Rounds of both are interleaved, so that a noisy machine is noisy for both.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from accrete_learner import augment, backbones, heads
from accrete_learner.backbones.cifar import CIFAR_MEAN, CIFAR_STD, resnet32
from accrete_learner.budget import BudgetConfig
from accrete_learner.config import MethodConfig, NetworkConfig, TrainingConfig
from accrete_learner.heads import HeadChoice
from accrete_learner.job import CANDIDATE_FOLDER, INPUTS_FILE, Job
from accrete_learner.losses import CrossEntropy, LessForget, MarginRanking
from accrete_learner.network import Network
from accrete_learner.precision import resolve_precision
from accrete_learner.schedule import Schedule
from accrete_learner.train import TrainingSet, train
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
    """Images a second of each round of `count` batches."""
    x, y = images(count * BATCH)
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
    """The same through the learner's loop; with a teacher, as a later step of LUCIR."""
    generator = torch.Generator().manual_seed(1)
    x, y = images(count * BATCH)
    backbone = backbones.build(NetworkConfig(), generator=generator).to(memory_format=torch.channels_last)
    grow = partial(heads.grow, feature_length=backbone.feature_length, generator=generator)
    choice = HeadChoice(kind="cosine" if teacher else "linear")
    parent = grow(choice, None, class_count=CLASSES // 2).export() if teacher else None
    head = grow(choice, parent, class_count=CLASSES)
    network = Network(backbone, head, autocast=precision == "bfloat16")
    before = Network(backbone, heads.restore(parent), autocast=network.autocast).teacher() if parent else None
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
            generator=generator,
            report=lambda *_: None,
            teacher=before,
        )
        yield len(x) / (time.perf_counter() - started)


def images(count: int) -> tuple[Tensor, Tensor]:
    """Noise: what an image shows does not change how long it takes."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(256, (count, 32, 32, 3), generator=generator, dtype=torch.uint8)
    return x, torch.arange(count) % CLASSES


def throughput(rounds: int, batches: int) -> list[Row]:
    """Both loops in turn."""
    fast = resolve_precision("auto", torch.device("cpu"))
    loops = {
        "straightforward, float32": straightforward(batches),
        f"ours, {fast}": ours(batches, fast),
        "ours, float32": ours(batches, "float32"),
        f"ours, {fast}, with a teacher and LUCIR's loss": ours(batches, fast, teacher=True),
    }
    for loop in loops.values():
        next(loop)
    found: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(rounds):
        for name, loop in loops.items():
            found[name].append(next(loop))
    ratios = [
        mine / theirs for mine, theirs in zip(found[f"ours, {fast}"], found["straightforward, float32"], strict=True)
    ]
    rows = [median_row(name, values, "images/s") for name, values in found.items()]
    return [median_row("ours against the straightforward loop", ratios, "times", ">= 2"), *rows]


def peak_memory(memory: int) -> Row:
    """Most host memory of a trainer's process in a later LUCIR step with a memory of `memory` exemplars."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first = _step(folder / "1", old=0, new=50, each=20, exemplars=0, parent=None)
        _trained(folder / "1", first)
        later = _step(folder / "2", old=50, new=5, each=500, exemplars=memory, parent=folder / "1" / CANDIDATE_FOLDER)
        peak = _trained(folder / "2", later)
    return Row(name=f"host memory of a step, K = {memory}", value=peak / 2**20, unit="GB", bound="<= 2")


def _step(folder: Path, *, old: int, new: int, each: int, exemplars: int, parent: Path | None) -> Job:
    folder.mkdir()
    x, _ = images(new * each)
    tensors = {"new_x": x, "new_y": old + torch.arange(new).repeat_interleave(each)}
    if exemplars:
        kept, _ = images(exemplars)
        tensors |= {"exemplar_x": kept, "exemplar_y": torch.arange(old).repeat_interleave(exemplars // old)}
    save_file(tensors, folder / INPUTS_FILE)
    return Job(
        version=2 if old else 1,
        labels=tuple(map(str, range(old + new))),
        old_count=old,
        parent=None if parent is None else str(parent),
        parent_rows=tuple(range(old)),
        method=MethodConfig(name="lucir"),
        network=NetworkConfig(),
        training=TrainingConfig(base_epochs=1, epochs=1),
        budget=BudgetConfig(kind="total", size=exemplars or 1000),
    )


def _trained(folder: Path, job: Job) -> float:
    """Runs the step in a trainer's process of its own; its largest resident size in KB."""
    job.write(folder)
    child = subprocess.Popen(
        [sys.executable, "-m", "accrete_learner.trainer"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert child.stdin is not None
    child.stdin.write(f"{folder}\n")
    child.stdin.close()
    assert child.stdout is not None
    last = child.stdout.read().splitlines()[-1]
    _, status, usage = os.wait4(child.pid, 0)
    if status or json.loads(last)["stage"] != "done":
        raise RuntimeError(f"the step failed: {last}")
    return float(usage.ru_maxrss)


def main() -> None:
    """Runs it."""
    parsed = arguments(__doc__ or "").parse_args()
    found = machine()
    rows = throughput(rounds=3 if parsed.short else 9, batches=4 if parsed.short else 12)
    rows.append(peak_memory(2000))
    show(rows, found, parsed.json)


if __name__ == "__main__":
    main()
