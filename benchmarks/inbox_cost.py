"""What the inbox costs Predict: latency with it on and off, by turns, of photographs that the model is often unsure of.

Takes a folder with `train` and `test`, a folder of photographs per class in each. Two nodes with nothing set learn the
same few photographs of each class; one keeps what it is unsure of, the other does not. Callers ask each in turn for the
same photographs, one a call. What was kept, and what was dropped for which reason, is told beside the latencies. Then
some of what was kept is labelled, one at a time, and each label is timed until the image is answered by a version that
has learned it.
"""

from __future__ import annotations

import itertools
import tempfile
import threading
import time
import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from prometheus_client.parser import text_string_to_metric_families as parsed

from accrete import Client
from accrete_node.up import addresses
from benchmarks.node import default_node
from benchmarks.report import Row, arguments, machine, show

EACH = 3
"""Photographs that are taught per class: few, so that much is doubtful."""
LABELS = 50
PARTS = 4
"""The spread is that over so many parts of the turns."""
_WAIT_S = 600.0


def main() -> None:
    """Measure and show."""
    parser = arguments(__doc__ or "")
    parser.add_argument("folder", type=Path, metavar="PHOTOS", help="photographs: trees train and test")
    parser.add_argument("--rounds", type=int, default=120, help="turns of each (default 120)")
    parser.add_argument("--calls", type=int, default=50, help="calls of a turn (default 50)")
    parser.add_argument("--callers", type=int, default=2, help="at once (default 2)")
    parser.add_argument("--per-minute", type=int, default=30, help="images kept a minute (default 30, as in a node)")
    options = parser.parse_args()
    found = machine()
    classes = sorted((options.folder / "train").iterdir())[: 10 if options.short else None]
    taught = [(folder.name, file) for folder in classes for file in sorted(folder.iterdir())[:EACH]]
    files = [file for folder in classes for file in sorted((options.folder / "test" / folder.name).iterdir())]
    asked = [file.read_bytes() for file in np.random.default_rng(0).permutation(np.array(files, object))]
    rounds, calls = (12, 50) if options.short else (options.rounds, options.calls)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="accrete-inbox-")))
        settings = {"deep.steps": "off"}
        on = settings | {"inbox.enabled": "true", "inbox.per_minute": str(options.per_minute)}
        addresses_of = {}
        for name, own in (("off", settings), ("on", on)):
            (folder / name).mkdir()
            addresses_of[name] = stack.enter_context(default_node(folder / name / "data", own))
            with Client(addresses_of[name], timeout=_WAIT_S) as client:
                client.wait_ready(_WAIT_S)
                client.wait_learned(client.add_examples(taught).ids, timeout=_WAIT_S)
        took: dict[str, list[list[float]]] = {"off": [], "on": []}
        for number in range(rounds + 1):
            part = [asked[(number * calls + place) % len(asked)] for place in range(calls)]
            for name in ("off", "on") if number % 2 else ("on", "off"):
                latencies = _turn(addresses_of[name], part, options.callers)
                if number:  # the first warms up
                    took[name].append(latencies)
        kept = _counts(folder / "on" / "data")
        learned = _label(addresses_of["on"], classes[0].name, 10 if options.short else LABELS)
    rows = []
    for percent in (50, 99):
        pooled = {name: _percentile(own, percent) for name, own in took.items()}
        for name, value in pooled.items():
            rows.append(Row(name=f"p{percent}, {name}, {rounds * calls} calls", value=value, unit="ms"))
        parts = [{name: own[first::PARTS] for name, own in took.items()} for first in range(PARTS)]
        ratios = [_percentile(part["on"], percent) / _percentile(part["off"], percent) for part in parts]
        spread, bound = (min(ratios), max(ratios)), "<= 1.05" if percent == 99 else ""
        ratio = pooled["on"] / pooled["off"]
        rows.append(Row(name=f"p{percent}, on over off", value=ratio, unit="", spread=spread, bound=bound))
    rows += [Row(name=name, value=value, unit="images") for name, value in sorted(kept.items())]
    for percent in (50, 99):
        name = f"p{percent}, from a label to an answer of a version that has learned it, of {len(learned)}"
        rows.append(Row(name=name, value=float(np.percentile(learned, percent)), unit="s"))
    show(rows, found, options.json)


def _percentile(turns: Sequence[Sequence[float]], percent: int) -> float:
    return float(np.percentile(np.concatenate(turns), percent))


def _turn(address: str, images: Sequence[bytes], callers: int) -> list[float]:
    """Return the milliseconds that each of so many calls took."""
    took: list[float] = []
    left, lock = iter(images), threading.Lock()

    def call() -> None:
        with Client(address, retry=None, timeout=60) as client:
            while True:
                with lock:
                    image = next(left, None)
                if image is None:
                    return
                began = time.perf_counter()
                client.predict(image)
                took.append(1000 * (time.perf_counter() - began))

    threads = [threading.Thread(target=call) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return took


def _label(address: str, label: str, count: int) -> list[float]:
    """Label images of the inbox one at a time; return the seconds until each was answered by a version that learned it.

    Which label it is makes no difference to that.
    """
    took = []
    with Client(address, timeout=_WAIT_S) as client:
        for item in client.inbox(page_size=count).items:
            image = client.inbox_image(item.id).image
            began = time.perf_counter()
            [result] = client.label_inbox({item.id: label})
            version = client.wait_learned([result.example_id], timeout=_WAIT_S)
            assert client.predict(image).version >= version
            took.append(time.perf_counter() - began)
    return took


def _counts(data_dir: Path) -> dict[str, float]:
    """Return what was kept, and what was dropped by reason."""
    where = addresses(data_dir)
    assert where is not None, "the node runs"
    page = urllib.request.urlopen(f"http://{where['metrics']}/metrics", timeout=60).read().decode()
    samples = itertools.chain.from_iterable(family.samples for family in parsed(page))
    return {
        " ".join((one.name.removeprefix("accrete_inbox_").removesuffix("_total"), *one.labels.values())): one.value
        for one in samples
        if one.name in ("accrete_inbox_kept_total", "accrete_inbox_dropped_total") and one.value
    }


if __name__ == "__main__":
    main()
