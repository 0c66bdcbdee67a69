"""Whom a whole node reaches in ten minutes of work, and what it writes beyond its data directory: nothing.

A node with its page and its inbox runs under strace (Debian's package of that name). It is taught photographs of a
folder, is asked for predictions by the SDK and by the page, labels what it was unsure of, makes a deep step, goes back
to an earlier version and forward again, and is backed up. Home and temporary folders are empty ones of its own.
"""

from __future__ import annotations

import itertools
import os
import shlex
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from accrete import AccreteError, Client
from accrete_node.up import addresses
from benchmarks import tracing
from benchmarks.node import default_node, side_by_side
from benchmarks.photograph_files import photographs_below
from benchmarks.report import Row, arguments, machine, show
from benchmarks.waiting import until

_SETTINGS = {
    "page.enabled": "true", "page.port": "0", "inbox.enabled": "true", "inbox.per_minute": "600",
    "training.max_minutes": "1",
}  # fmt: skip
_VIEWS = ("now", "classes", "versions", "inbox", "quarantine")
_FEW = 12
"""Photographs of a class that are taught at first; the others are asked about."""
_PAUSE_S = 1.0
_WAIT_S = 300
_SHOWN = 20


def main() -> None:
    """Run and show. The exit status is 1 when somebody was reached or something written elsewhere."""
    parser = arguments(__doc__ or "")
    parser.add_argument("folder", type=Path, help="photographs, a folder per class")
    parser.add_argument("--minutes", type=float, help="how long (default: 10; with --short 1)")
    options = parser.parse_args()
    if not tracing.can_trace():
        parser.error("strace is not here, or may not trace")
    try:
        classes = _photographs(options.folder)
    except FileNotFoundError as error:
        parser.error(str(error))
    if len(classes) < 2:
        parser.error(f"{options.folder}: two folders with photographs are needed")
    found = machine()
    with tempfile.TemporaryDirectory(prefix="accrete-outside-") as name:
        rows, offences = measure(Path(name), classes, 60 * (options.minutes or (1 if options.short else 10)))
    show(rows, found, options.json)
    for offence in offences[:_SHOWN]:
        print(f"FOUND {offence}")
    raise SystemExit(any(row.ok is False for row in rows))


def _photographs(folder: Path) -> dict[str, list[Path]]:
    """Return a folder's photographs by class; those of the folder `train`, where there is one."""
    root = folder / "train" if (folder / "train").is_dir() else folder
    by_class = itertools.groupby(photographs_below(root), lambda path: path.parent.name)
    return {name: list(some) for name, some in by_class}


def measure(folder: Path, classes: Mapping[str, list[Path]], seconds: float) -> tuple[list[Row], list[str]]:
    """Run the node for so many seconds in a folder that is there for it; return the figures and what was found."""
    places = own_places(folder)
    trace, data_dir = folder / "trace", folder / "data"
    began = time.monotonic()
    with (
        default_node(
            data_dir, _SETTINGS, environment=places, wrapped=lambda command: tracing.traced(command, trace)
        ) as address,
        Client(address, timeout=_WAIT_S) as client,
    ):
        client.wait_ready(_WAIT_S)
        work = _Work(client, classes, address, folder, places)
        work.run(began + seconds)
        versions = client.status().version
    took = time.monotonic() - began
    traces = [trace, *folder.glob("trace-*")]
    reached = set().union(*map(tracing.reached, traces))
    own = (data_dir, folder / "backups")
    elsewhere = set().union(*(tracing.elsewhere(one, *own) for one in traces))
    left = {path for name in ("home", "tmp") for path in (folder / name).rglob("*") if path.is_file()}
    rows = [
        Row(name="time", value=took / 60, unit="min"),
        *(Row(name=name, value=count, unit="") for name, count in sorted(work.done.items())),
        Row(name="version at the end", value=versions, unit=""),
        Row(name="files that were written in its folders", value=len(_written(traces, own)), unit=""),
        Row(name="calls that failed", value=len(work.failed), unit=""),
        Row(name="addresses beyond this machine", value=len(reached), unit="", bound="<= 0"),
        Row(name="files elsewhere", value=len(elsewhere), unit="", bound="<= 0"),
        Row(name="files left in home and temporary folders", value=len(left), unit="", bound="<= 0"),
    ]
    return rows, [*work.failed, *sorted(reached), *map(str, sorted(elsewhere | left))]


def own_places(folder: Path) -> dict[str, str]:
    """Make the folders where a process looks for the user's and temporary files, and return them by variable."""
    names = {"HOME": "home", "XDG_CACHE_HOME": "home/.cache", "XDG_CONFIG_HOME": "home/.config", "TMPDIR": "tmp"}
    for name in names.values():
        (folder / name).mkdir(parents=True, exist_ok=True)
    return {variable: str(folder / name) for variable, name in names.items()}


def _written(traces: list[Path], folders: tuple[Path, ...]) -> set[Path]:
    found = set().union(*map(tracing.written, traces))
    return {path for path in found if any(folder in path.parents for folder in folders)}


class _Work:
    """What is done with the node meanwhile, and how often."""

    def __init__(
        self, client: Client, classes: Mapping[str, list[Path]], address: str, folder: Path, places: Mapping[str, str]
    ) -> None:
        self.done: Counter[str] = Counter()
        self.failed: list[str] = []
        self._client = client
        self._classes = classes
        self._address = address
        self._folder = folder
        self._places = dict(places)

    def run(self, until_s: float) -> None:
        """Teach classes one by one until then (`time.monotonic`), and do all else beside it."""
        with side_by_side(self._ask, self._look):
            labels = itertools.cycle(self._classes)
            for turn, label in enumerate(labels):
                self._teach(label, turn // len(self._classes))
                if turn == 2:
                    self._try("deep steps", lambda: self._client.trigger_step(deep=True))
                if turn % 4 == 1:
                    self._try("inbox images labelled", self._label_one)
                    self._try("versions activated", self._back_and_forth)
                    self._command("backup", str(self._folder / "backups" / str(turn)))
                    self._command("status")
                if time.monotonic() > until_s:
                    return
                time.sleep(_PAUSE_S)

    def _teach(self, label: str, round_: int) -> None:
        some = self._classes[label][round_ * _FEW : (round_ + 1) * _FEW]
        if some:
            with self._noted("examples taught", len(some)):
                report = self._client.add_examples((label, path) for path in some)
                self._client.wait_learned(report.ids, timeout=_WAIT_S)

    @contextmanager
    def _noted(self, what: str, count: int = 1) -> Iterator[None]:
        """Count what the block does, or note why it failed."""
        try:
            yield
        except (AccreteError, OSError, RuntimeError) as error:
            self.failed.append(f"{what}: {error}")
        else:
            self.done[what] += count

    def _try(self, what: str, work: Callable[[], object]) -> None:
        with self._noted(what):
            work()

    def _label_one(self) -> None:
        for item in self._client.inbox(page_size=1).items:
            self._client.label_inbox({item.id: item.labels[0].label})

    def _back_and_forth(self) -> None:
        self._client.activate(max(1, self._client.status().version - 1))
        self._client.unpin()

    def _command(self, *words: str) -> None:
        options = ["--data-dir", str(self._folder / "data")] if words[0] == "backup" else ["--address", self._address]
        command = [sys.executable, "-m", "accrete", *words, *options]
        trace = self._folder / f"trace-{self.done['commands']}"
        with self._noted("commands"):
            done = subprocess.run(
                tracing.traced(command, trace), env=os.environ | self._places, capture_output=True, text=True
            )
            if done.returncode:
                raise RuntimeError(f"{shlex.join(words)}: {done.stderr.strip()[-300:]}")

    def _ask(self, enough: threading.Event) -> None:
        """Predict what was not taught, again and again."""
        asked = itertools.cycle([path for some in self._classes.values() for path in some[_FEW : 2 * _FEW]])
        while not enough.wait(_PAUSE_S / 2):
            if self._client.status().version:
                self._try("predictions", lambda: self._client.predict([next(asked)]))

    def _look(self, enough: threading.Event) -> None:
        """Open the page and its views, again and again."""
        page = until(lambda: addresses(self._folder / "data", "page"), what="the page")["address"]
        while not enough.wait(_PAUSE_S):
            for path in ("", *(f"api/{view}" for view in _VIEWS)):
                self._try("requests to the page", lambda: _fetched(page + path))  # noqa: B023  called at once


def _fetched(url: str) -> int:
    """Return the status of an answer. Raises OSError for one that is an error."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=_WAIT_S) as response:
        response.read()
        return int(response.status)


if __name__ == "__main__":
    main()
