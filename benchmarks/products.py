"""Many products through a node with nothing set: accuracy over photographs per class, calibration, and strangers.

The closed form alone: deep steps are off, for they would start by themselves in the midst of a measurement.

`PHOTOS` has a folder per class below `train` and below `test`. Per draw, a node is taught the first photographs of each
class, in a random order of its own, up to each of `--counts`, and asked for all of `test` after each. Then, in nodes of
their own: classes that come in steps against all at once, and classes that were never taught.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from accrete import Client, Evaluation
from accrete_experiments.demo.data import DataError, folder
from benchmarks.node import default_node
from benchmarks.report import Row, arguments, machine, median_row, show

COUNTS = "1,3,5,10,20,all"
UNKNOWN_RATE = 0.05
_WAIT_S = 3600.0

Files = Mapping[str, Sequence[Path]]


def main() -> None:
    """Run and show."""
    parser = arguments(__doc__ or "")
    parser.add_argument("folder", type=Path, metavar="PHOTOS", help="photographs: trees train and test")
    parser.add_argument("--draws", type=int, default=3, help="of the photographs that are taught (default 3)")
    parser.add_argument("--counts", default=COUNTS, help=f"photographs per class (default {COUNTS})")
    parser.add_argument("--first", type=int, default=0, help="classes of the first step; 10 come in each later one")
    parser.add_argument("--strangers", type=int, default=0, help="classes that are asked for and never taught")
    options = parser.parse_args()
    try:
        dataset = folder(options.folder, 1, None)
    except DataError as error:
        parser.error(str(error))
    test = options.folder / "test"
    if not test.is_dir():
        parser.error(f"{options.folder}: no folder test")
    train: dict[str, list[Path]] = {label: [] for label in dataset.classes}
    for label, file in zip(dataset.train.labels, dataset.train.images, strict=True):
        assert isinstance(file, Path)
        train[label].append(file)
    found = machine()
    rows = list(_over_counts(train, test, options.counts.split(","), 1 if options.short else options.draws))
    if options.first:
        rows += _in_steps(_drawn(train, 0), test, options.first)
    if options.strangers:
        rows += _strangers(_drawn(train, 0), test, options.strangers)
    show(rows, found, options.json)


def _drawn(train: Files, draw: int) -> Files:
    """Return each class's files in the order of a draw."""
    generator = np.random.default_rng(draw)
    return {label: [files[row] for row in generator.permutation(len(files))] for label, files in train.items()}


@contextmanager
def _client() -> Iterator[Client]:
    with (
        tempfile.TemporaryDirectory(prefix="accrete-products-", ignore_cleanup_errors=True) as name,
        default_node(Path(name) / "data", {"deep.steps": "off"}) as address,
        Client(address, timeout=_WAIT_S) as client,
    ):
        client.wait_ready(_WAIT_S)
        yield client


def _teach(client: Client, files: Files, begin: int, end: int | None) -> None:
    """Teach each class's files from `begin` to `end`, and wait until they are learned."""
    pairs = [(label, file) for label, own in files.items() for file in own[begin:end]]
    client.wait_learned(client.add_examples(pairs).ids, timeout=_WAIT_S)


def _measure(client: Client, test: Path) -> Evaluation:
    return client.evaluate(test, unknown_rate=UNKNOWN_RATE, progress=False)


def _share(found: Evaluation) -> float:
    return found.all.right / found.all.images


def _over_counts(train: Files, test: Path, counts: Sequence[str], draws: int) -> Iterator[Row]:
    evaluations: dict[str, list[Evaluation]] = {count: [] for count in counts}
    for draw in range(draws):
        files = _drawn(train, draw)
        with _client() as client:
            begin = 0
            for count in counts:
                end = None if count == "all" else int(count)
                _teach(client, files, begin, end)
                evaluations[count].append(_measure(client, test))
                begin = end or 0
    for count, found in evaluations.items():
        shares = [_share(one) for one in found]
        name = f"{count} per class, of {found[0].all.images} photographs"
        yield Row(name=f"accuracy, {name}", value=statistics.mean(shares), unit="", spread=(min(shares), max(shares)))
        yield median_row(f"calibration error, {name}", [one.calibration_error or 0.0 for one in found], "")
        yield median_row(f"called unknown, {name}", [one.unknown / one.all.images for one in found], "")


def _in_steps(files: Files, test: Path, first: int) -> Iterator[Row]:
    labels = list(files)
    with _client() as client:
        _teach(client, files, 0, None)
        at_once = _measure(client, test)
    with _client() as client:
        for begin in (0, *range(first, len(labels), 10)):
            step = labels[begin : begin + (10 if begin else first)]
            _teach(client, {label: files[label] for label in step}, 0, None)
        stepwise = _measure(client, test)
    yield Row(name="accuracy, all at once", value=_share(at_once), unit="")
    yield Row(name=f"accuracy, {first} classes and then 10 at a time", value=_share(stepwise), unit="")
    differing = sum(abs(share.right - stepwise.classes[label].right) for label, share in at_once.classes.items())
    yield Row(name="right answers per class that differ between the two", value=differing, unit="", bound="<= 0")


def _strangers(files: Files, test: Path, count: int) -> Iterator[Row]:
    taught = list(files)[:-count]
    with _client() as client:
        _teach(client, {label: files[label] for label in taught}, 0, None)
        found = _measure(client, test)
    images = sum(found.strangers.values())
    yield Row(name=f"known called unknown, {len(taught)} classes", value=found.unknown / found.all.images, unit="")
    yield Row(name=f"strangers called unknown, of {images}", value=found.strangers_unknown / images, unit="")
    yield Row(name=f"strangers doubted, of {images}", value=found.strangers_doubted / images, unit="")
    yield Row(name="known doubted", value=found.doubted / found.all.images, unit="")
    undoubted = found.undoubted
    yield Row(name="right among the undoubted", value=undoubted.right / max(1, undoubted.images), unit="")


if __name__ == "__main__":
    main()
