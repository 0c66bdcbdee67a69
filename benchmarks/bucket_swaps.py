"""Swaps to versions that are in the data directory, in the cache of a bucket, and only in the bucket, side by side.

`ACCRETE_NODES_BUCKET` says which bucket (credentials and endpoint are the environment's); without it, a folder as one.
Two nodes learn the same two versions. Callers ask both while their versions are made live by turns.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from benchmarks.bucket import VARIABLE
from benchmarks.node import Node, side_by_side
from benchmarks.report import Row, arguments, machine, median_row, show
from benchmarks.swaps import Load, ask, two_versions

_PLACES = ("data directory", "cache", "bucket")


def main() -> None:
    """Run the benchmark. The exit status is 1 when a bound is not kept."""
    parsed = arguments(__doc__ or "").parse_args()
    facts = machine()
    with tempfile.TemporaryDirectory(prefix="accrete-bucket-") as folder:
        rows, load = run(Path(folder), swaps=10 if parsed.short else 60)
    show(rows, facts, parsed.json)
    for problem in (load.failed + load.mixed)[:10]:
        print(f"  {problem}")
    raise SystemExit(any(row.ok is False for row in rows))


def run(folder: Path, *, swaps: int) -> tuple[list[Row], Load]:
    """Swap on both nodes by turns, so that what else the machine does meets all alike."""
    below = os.environ.pop(VARIABLE, "")
    here = _started(folder / "here")
    if not below:
        (folder / "objects").mkdir()
        below = f"file://{folder / 'objects'}"
    os.environ[VARIABLE] = below
    there, load = _started(folder / "there"), Load()
    seconds: dict[str, list[float]] = {place: [] for place in _PLACES}
    try:
        with ExitStack() as stack:
            clients = {node: stack.enter_context(node.client()) for node in (here, there)}
            askers = [partial(ask, node, load, *two_versions(client)) for node, client in clients.items()]
            live = dict.fromkeys(clients, 2)
            with side_by_side(*askers):
                for _ in range(swaps):
                    for place in _PLACES:
                        node = here if place == _PLACES[0] else there
                        version = live[node] = 3 - live[node]
                        if place == "bucket":
                            shutil.rmtree(node.data_dir / "versions" / f"v{version:06d}")
                        started = time.perf_counter()
                        clients[node].activate(version)
                        seconds[place].append(time.perf_counter() - started)
    finally:
        for node in (here, there):
            node.stop()
    mean = {place: sum(taken) / len(taken) for place, taken in seconds.items()}
    return [
        *(
            median_row(f"to a version in the {place}", [1000 * one for one in taken], "ms")
            for place, taken in seconds.items()
        ),
        *(
            Row(name=f"{place} over data directory, means", value=mean[place] / mean[_PLACES[0]], unit="x")
            for place in _PLACES[1:]
        ),
        Row(name="predictions meanwhile", value=load.answers.total(), unit=""),
        Row(name="failed predictions", value=len(load.failed), unit="", bound="<= 0"),
        Row(name="answers that are not of the version they name", value=len(load.mixed), unit="", bound="<= 0"),
    ], load


def _started(folder: Path) -> Node:
    folder.mkdir()
    node = Node(folder, settings={"learner.keep_versions": "20"})
    node.start()
    return node


if __name__ == "__main__":
    main()
