"""Labelling what the model is unsure of against labelling at random: labels needed to a given accuracy.

Takes a folder with `train` and `test`, a folder of photographs per class in each. One photograph of each class is
known; then a person labels some of the rest at a time, and the head is solved anew, as a node does it: the same sums,
the same head, the same probabilities. What is labelled next is chosen at random, or in the inbox's order: by the
distance of the two greatest probabilities. The third way takes the least probable answers. Features are computed once.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from accrete_learner.config import ModelConfig
from accrete_learner.frozen_backbone import frozen_backbone
from accrete_learner_service.analytic.ledger import Ledger
from accrete_model.vectors import Floats, highest, softmax
from benchmarks.deep import read
from benchmarks.report import Row, arguments, machine, median_row, show

TARGETS = (0.65, 0.7, 0.75, 0.8)

Choose = Callable[[Floats, np.random.Generator], NDArray[np.float64]]
"""From probabilities [n, C] of what is not labelled to how much each is wanted [n]."""


@dataclass(frozen=True)
class Part:
    """Photographs of one of the two folders."""

    x: Floats
    """[n, d]."""
    y: NDArray[np.int64]
    names: list[str]


def main() -> None:
    """Measure and show."""
    parser = arguments(__doc__ or "")
    parser.add_argument("folder", type=Path, metavar="PHOTOS", help="photographs: train/CLASS/FILE and test/CLASS/FILE")
    parser.add_argument("--seeds", type=int, default=3, help="draws of what is known at first (default 3)")
    parser.add_argument("--at-once", type=int, default=20, help="labels between two looks (default 20)")
    parser.add_argument("--labels", type=int, default=1400, help="given in all (default 1400)")
    options = parser.parse_args()
    found = machine()
    classes = sorted(entry.name for entry in (options.folder / "train").iterdir())[: 8 if options.short else None]
    backbone = frozen_backbone(ModelConfig(backbone="efficientnet_lite0"))
    learn, test = (
        Part(x=part.features(backbone).astype(np.float32), y=part.y, names=part.names)
        for part in (read(options.folder / name, classes) for name in ("train", "test"))
    )
    rows: list[Row] = []
    curves: dict[str, list[dict[int, float]]] = {}
    for name, choose in (("at random", _random), ("by distance", _distance), ("by probability", _probability)):
        for seed in range(1 if options.short else options.seeds):
            curve = _curve(learn, test, choose, seed, options.at_once, min(options.labels, len(learn.y)))
            curves.setdefault(name, []).append(curve)
            print(name, seed, [f"{count}: {share:.3f}" for count, share in curve.items()][:: max(1, len(curve) // 16)])
    for name, of_seeds in curves.items():
        for count in (100, 200, 300, 500, 800, 1100, 1400):
            reached = [max(known for known in curve if known <= max(count, min(curve))) for curve in of_seeds]
            values = [100 * curve[known] for curve, known in zip(of_seeds, reached, strict=True)]
            rows.append(median_row(f"{name}: right with {count} labels", values, "%"))
    for target in TARGETS:
        rows += _needed(curves, target)
    show(rows, found, options.json)


def _random(probabilities: Floats, generator: np.random.Generator) -> NDArray[np.float64]:
    return generator.random(len(probabilities))


def _distance(probabilities: Floats, generator: np.random.Generator) -> NDArray[np.float64]:
    _, best = highest(probabilities, 2)
    distances: NDArray[np.float64] = (best[:, 1] - best[:, 0]).astype(np.float64)
    return distances


def _probability(probabilities: Floats, generator: np.random.Generator) -> NDArray[np.float64]:
    improbable: NDArray[np.float64] = -probabilities.max(axis=1).astype(np.float64)
    return improbable


def _curve(learn: Part, test: Part, choose: Choose, seed: int, at_once: int, labels: int) -> dict[int, float]:
    """Return the share of `test` that is right, by how many are labelled."""
    generator = np.random.default_rng(seed)
    first = [generator.choice(np.flatnonzero(learn.y == label)) for label in np.unique(learn.y)]
    ledger = _taught(Ledger.empty(learn.x.shape[1], 0), learn, first)
    left = np.setdiff1d(np.arange(len(learn.y)), first)
    curve: dict[int, float] = {}
    count = len(first)
    while True:
        solved = ledger.solved()
        head, ledger = solved.head, solved.ledger
        order = np.array([int(label) for label in ledger.labels])
        answers = order[(test.x @ head.weight.T + head.bias).argmax(axis=1)]
        curve[count] = float((answers == test.y).mean())
        if count >= labels or not len(left):
            return curve
        wanted = choose(softmax(learn.x[left] @ head.weight.T + head.bias), generator)
        chosen = left[np.argsort(-wanted, kind="stable")[: min(at_once, labels - count)]]
        ledger = _taught(ledger, learn, chosen)
        left = np.setdiff1d(left, chosen)
        count += len(chosen)


def _taught(ledger: Ledger, learn: Part, chosen: Sequence[int] | NDArray[np.int64]) -> Ledger:
    rows = np.asarray(chosen)
    return ledger.with_examples(
        (str(label), [learn.names[row] for row in rows[learn.y[rows] == label]], learn.x[rows[learn.y[rows] == label]])
        for label in np.unique(learn.y[rows])
    )


def _needed(curves: dict[str, list[dict[int, float]]], target: float) -> list[Row]:
    """Return the labels needed to an accuracy, and their share of those that chance needs."""
    needed = {
        name: [next((count for count, share in curve.items() if share >= target), None) for curve in of_seeds]
        for name, of_seeds in curves.items()
    }
    rows, base = [], None
    for name, counts in needed.items():
        reached = [count for count in counts if count is not None]
        if len(reached) < len(counts):
            continue
        rows.append(median_row(f"{name}: labels to {100 * target:.0f} %", [float(count) for count in reached], ""))
        base = base or statistics.mean(reached)
        if name != "at random":
            ratio = statistics.mean(reached) / base
            rows.append(Row(name=f"{name}: of those that chance needs to {100 * target:.0f} %", value=ratio, unit=""))
    return rows


if __name__ == "__main__":
    main()
