"""A shop of six products, as somebody without a GPU would teach it: a node with nothing set, photographs as they come.

The photographs of a folder (a folder per product, or such trees `train` and `test`) are first made into files of four
formats, with sides from 170 to 1,000 pixels. Products then come in the order of `--steps`. After each step all products
known so far are asked for, on photographs that were not taught.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from accrete import Client
from accrete_experiments.demo.data import DataError, folder
from accrete_experiments.live.data import Split
from accrete_experiments.live.figures import measure
from accrete_learner.metrics import accuracy
from benchmarks.node import default_node
from benchmarks.report import Row, arguments, machine, show

STEPS = "Banana,Avocado,Kiwi;Orange;Red-Delicious,Carrots"
_FORMATS = ("jpg", "png", "webp", "bmp")
_SMALLEST, _LARGEST = 170, 1000
_BOUND = ">= 0.94"
_WAIT_S = 600
_SHORT = 8
"""Photographs per product, to teach and to ask for."""


def main() -> None:
    """Run and show."""
    parser = arguments(__doc__ or "")
    parser.add_argument("folder", type=Path, help="photographs: a folder per product, or such trees train and test")
    parser.add_argument("--steps", default=STEPS, help=f"products in the order of their coming (default {STEPS})")
    parser.add_argument("--seed", type=int, default=1, help="of formats and sizes (default 1)")
    options = parser.parse_args()
    steps = [step.split(",") for step in options.steps.split(";")]
    found = machine()
    with tempfile.TemporaryDirectory(prefix="accrete-shop-", ignore_cleanup_errors=True) as name:
        train, test = _photographs(options, parser, list(itertools.chain(*steps)), Path(name))
        with default_node(Path(name) / "data") as address, Client(address, timeout=_WAIT_S) as client:
            client.wait_ready(_WAIT_S)
            rows = list(_taught(client, steps, train, test))
    last = [row for row in rows if row.name.startswith("accuracy")][-1]
    show([row if row is not last else _bounded(row) for row in rows], found, options.json)


def _bounded(row: Row) -> Row:
    return Row(name=row.name, value=row.value, unit=row.unit, bound=_BOUND)


def _photographs(
    options: argparse.Namespace, parser: argparse.ArgumentParser, products: Sequence[str], into: Path
) -> tuple[Split, Split]:
    """Return the files to teach and to ask for, made below `into`."""
    try:
        dataset = folder(options.folder, options.seed, None)
    except DataError as error:
        parser.error(str(error))
    missing = set(products).difference(dataset.classes)
    if missing:
        parser.error(f"{options.folder}: no photographs of {', '.join(sorted(missing))}")
    generator = np.random.default_rng(options.seed)
    first, second = (
        _made(part.of(products), into / name, generator, _SHORT if options.short else None)
        for name, part in (("train", dataset.train), ("test", dataset.test))
    )
    return first, second


def _made(photographs: Split, into: Path, generator: np.random.Generator, per_product: int | None) -> Split:
    """Write the photographs as files of four formats and of many sizes."""
    files, labels = list[Path](), list[str]()
    for label in dict.fromkeys(photographs.labels):
        (into / label).mkdir(parents=True)
        for number, path in enumerate(photographs.of([label]).images[:per_product]):
            assert isinstance(path, Path)
            file = into / label / f"{number}.{_FORMATS[number % len(_FORMATS)]}"
            with Image.open(path) as opened:
                image = opened.convert("RGB")
            smallest = min(_LARGEST, _SMALLEST * max(image.size) / min(image.size))
            scale = generator.uniform(smallest, _LARGEST) / max(image.size)
            width, height = (max(_SMALLEST, round(scale * side)) for side in image.size)
            image.resize((width, height), Image.Resampling.BICUBIC).save(file)
            files.append(file)
            labels.append(label)
    return Split(images=files, labels=labels)


def _taught(client: Client, steps: Sequence[Sequence[str]], train: Split, test: Split) -> Iterator[Row]:
    """Teach step by step, and yield the figures of each."""
    known = list[str]()
    for step in steps:
        known += step
        taught, unseen = train.of(step), test.of(step)
        begun = time.perf_counter()
        ids = client.add_examples(zip(taught.labels, taught.images, strict=True)).ids
        acknowledged = time.perf_counter()
        _first_right_answer(client, unseen)
        answered = time.perf_counter()
        client.wait_learned(ids, timeout=_WAIT_S)
        learned = time.perf_counter()
        tallies = measure(client, test.of(known))
        share = accuracy(tallies)
        assert share is not None
        after = f"{len(known)} products"
        yield Row(name=f"{after}: photographs taught in this step", value=len(ids), unit="")
        yield Row(name=f"{after}: to add them", value=acknowledged - begun, unit="s")
        yield Row(name=f"{after}: then to the first right answer", value=answered - acknowledged, unit="s")
        yield Row(name=f"{after}: then until all are learned", value=learned - acknowledged, unit="s")
        asked = sum(tally.total for tally in tallies.values())
        yield Row(name=f"accuracy with {after}, of {asked} photographs", value=share, unit="")


def _first_right_answer(client: Client, unseen: Split) -> None:
    """Ask for one new photograph after the other until an answer is right."""
    deadline = time.perf_counter() + _WAIT_S
    for label, file in itertools.cycle(zip(unseen.labels, unseen.images, strict=True)):
        if client.status().version and client.predict(file).label == label:
            return
        if time.perf_counter() > deadline:
            raise TimeoutError(f"no right answer within {_WAIT_S} s")


if __name__ == "__main__":
    main()
