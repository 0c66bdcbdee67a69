"""Find unit costs on the real store, learner and server. Processor time, as the kernel and the store count it.

The images are noise, as large as the default backbone takes and a little smoothed, so that their JPEGs are about as
long as those of photographs: what an image shows does not change what it costs.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accrete import Client
from accrete_learner.config import ModelConfig
from accrete_learner_service.analytic.extractor import FrozenExtractor
from accrete_learner_service.provisional.updater import mean_direction
from accrete_model.frozen import BackboneStore
from accrete_storage.config import HoldoutConfig, StoreConfig
from accrete_storage.events import StoredEvent
from accrete_storage.examples.example import Example
from accrete_storage.members import Member
from accrete_storage.store import Store
from accrete_storage.versions.prototypes import Prototype
from benchmarks.fresh_examples import Size, preload
from benchmarks.scale.processes import Used, WatchedStore, Worker, watched_store, worker
from benchmarks.waiting import until

CLASSES = (100, 1_000, 10_000)
MEMBERS = (10, 100, 1_000)
_PER_CLASS = 10
_READ_MS = 200
"""The longest read of events of a server."""
_POLLS = 5
"""How often it reads within a second."""

_ANNOUNCED_S = 0.5
"""Between the first event of a step that is only announced and the last look."""

Found = dict[str, list[float]]
"""The rounds of each figure; of one that depends on a size, by "name@size"."""


def measure(*, short: bool = False, tell: Callable[[str], None] = print) -> dict[str, Any]:
    """Return every cost by name: its value, which is the median, with the lowest and highest round and how often.

    Args:
        short: fewer rounds, and no more than 1,000 classes: to try the program.
        tell: says how far it is.
    """
    found: Found = {}
    rounds = 3 if short else 7
    with tempfile.TemporaryDirectory(prefix="accrete-scale-") as name:
        folder = Path(name)
        tell("adding examples")
        _adding(folder / "adding", rounds, found)
        tell("events, members and syncs")
        _events(folder / "events", rounds, found)
        _members(folder / "members", rounds, found)
        tell("features and prototypes")
        _features(folder / "features", rounds, found)
        for classes in CLASSES[:2] if short else CLASSES:
            tell(f"steps with {classes:,} classes")
            _steps(folder / f"steps-{classes}", classes, min(rounds, 5 if classes < CLASSES[-1] else 3), found)
        tell("a server")
        _serving(folder / f"steps-{CLASSES[0]}", rounds, found)
    return _table(found)


def _table(found: Found) -> dict[str, Any]:
    """Return the medians by name; of a figure that depends on a size, by that."""
    table: dict[str, Any] = {}
    for name, rounds in found.items():
        what, _, classes = name.partition("@")
        value, spread = statistics.median(rounds), [min(rounds), max(rounds)]
        if classes:
            one = table.setdefault(what, {"value": {}, "spread": {}, "rounds": len(rounds)})
            one["value"][classes], one["spread"][classes] = _short(value), [_short(end) for end in spread]
        else:
            table[what] = {"value": _short(value), "spread": [_short(end) for end in spread], "rounds": len(rounds)}
    return dict(sorted(table.items()))


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def photographs(count: int, seed: int = 1993) -> Iterator[NDArray[np.uint8]]:
    """Yield images [224, 224, 3] whose JPEGs are about as long as those of photographs of that size."""
    generator = np.random.default_rng(seed)
    for _ in range(count):
        coarse = generator.integers(0, 256, (7, 7, 3)).repeat(32, 0).repeat(32, 1)
        fine = generator.integers(0, 256, (56, 56, 3)).repeat(4, 0).repeat(4, 1)
        yield (0.7 * coarse + 0.3 * fine).astype(np.uint8)


def examples(count: int, classes: int = 20, seed: int = 1993) -> list[Example]:
    """Return photographs as they are stored, of several classes in turn."""
    return [
        Example(id=uuid.uuid4().hex, label=f"class {number % classes}", content=image)
        for number, image in enumerate(photographs(count, seed))
    ]


def _line(points: Mapping[int, float]) -> tuple[float, float]:
    """Return intercept and slope of the straight line through values by size, both above 0."""
    sizes, values = np.array(list(points)), np.array(list(points.values()))
    # By relative deviation, for a batch's cost is thirty times a single one's.
    slope, intercept = np.polyfit(sizes, values, 1, w=1 / values)
    return max(float(intercept), 0.1), max(float(slope), 0.1)


def _adding(folder: Path, rounds: int, found: Found) -> None:
    """What it costs the store to take photographs in, by the storage package alone."""
    sizes = (1, 8, 64)
    with watched_store(folder) as watched:
        images = examples(512)
        for number in range(rounds):
            by_size = {}
            for size in sizes:
                calls = max(2, 256 // size) if size > 1 else 128
                batches = [_anew(images[(n * size) % 448 : (n * size) % 448 + size]) for n in range(calls)]
                before, memory, log = watched.used(), watched.memory(), _log_bytes(folder)
                for batch in batches:
                    watched.store.pending.add(batch)
                by_size[size] = watched.used().since(before).cpu_us / calls
                if size == sizes[-1]:
                    count = size * calls
                    _note(found, "pending_bytes", (watched.memory() - memory) / count)
                    _note(found, "log_bytes", (_log_bytes(folder) - log) / count)
            call, each = _line(by_size)
            _note(found, "add_call_us", call)
            _note(found, "add_example_us", each)
            memory = watched.memory()
            value = f"{'0' * 64}|{1:013d}-0|0|class 12"
            with watched.client.pipeline(transaction=False) as pipeline:
                for _ in range(5000):
                    pipeline.set(watched.keys.seen(uuid.uuid4().hex), value, px=86_400_000)
                pipeline.execute()
            _note(found, "seen_bytes", (watched.memory() - memory) / 5000)
            memory = watched.memory()
            key = watched.keys.features(f"round {number}")
            watched.client.hset(key, mapping={uuid.uuid4().hex: os.urandom(2 * 1280) for _ in range(2000)})
            _note(found, "feature_bytes", (watched.memory() - memory) / 2000)


def _anew(batch: Sequence[Example]) -> list[Example]:
    return [Example(id=uuid.uuid4().hex, label=one.label, content=one.content) for one in batch]


def _log_bytes(data_dir: Path) -> int:
    return sum(file.stat().st_size for file in (data_dir / "store" / "appendonlydir").iterdir())


def _events(folder: Path, rounds: int, found: Found) -> None:
    """What it costs the store that many follow its events, that members say that they live, and to sync."""
    subscribers, events = 64, 40
    with watched_store(folder) as watched:
        stores = [_connected(folder) for _ in range(subscribers)]
        for store in stores:
            store.events.last_id()
        with ThreadPoolExecutor(subscribers) as pool:
            for _ in range(rounds):
                before = watched.used()
                list(pool.map(_poll, stores))
                idle = watched.used().since(before)
                poll_us = idle.cpu_us / (_POLLS * subscribers)
                _note(found, "poll_us", poll_us)

                last = watched.store.events.last_id()
                before = watched.used()
                reading = [pool.submit(_read_all, store, last, events) for store in stores]
                for number in range(events):
                    watched.store.events.append("phase", {"phase": "training", "reason": f"example {number}"})
                    time.sleep(0.02)
                for each in reading:
                    each.result()
                heard = watched.used().since(before)
                _note(found, "event_us", max(heard.cpu_us / (events * subscribers), 0.1))
                _note(found, "event_bytes", heard.out_bytes / (events * subscribers))

                written = _seconds(lambda: watched.client.set("sync", "x"), 200)
                read = _seconds(lambda: watched.client.get("sync"), 200)
                _note(found, "sync_us", max(1e6 * (written - read), 1.0))
        for store in stores:
            store.close()


def _members(folder: Path, rounds: int, found: Found) -> None:
    """What it costs the store that a server tells of itself and hears of the others, by how many there are."""
    with watched_store(folder) as watched:
        for count in MEMBERS:
            members = [
                Member(
                    id=uuid.uuid4().hex,
                    address=f"10.0.{number // 256}.{number % 256}:50051",
                    started_ms=1_700_000_000_000,
                    release="0.1.0",
                    version=1000,
                    state="serving",
                    busyness=0.5,
                )
                for number in range(count)
            ]
            for member in members:
                watched.store.members.tell(member, 600)
            for _ in range(rounds):
                before = watched.used()
                for member in members[:100]:
                    watched.store.members.tell(member, 600)
                used = watched.used().since(before)
                _note(found, f"member_us@{count}", used.cpu_us / min(count, 100))
                _note(found, f"member_bytes@{count}", used.out_bytes / min(count, 100))


def _connected(folder: Path) -> Store:
    return Store.connect(StoreConfig(timeout_s=60), HoldoutConfig(), data_dir=folder)


def _poll(store: Store) -> None:
    """Read events for a second, as a server does while there are none."""
    for _ in range(_POLLS):
        store.events.read("$", _READ_MS)


def _read_all(store: Store, after: str, count: int) -> None:
    """Read so many events, as a server does: each as it comes."""
    while count > 0:
        events = store.events.read(after, 2000)
        if events:
            after, count = events[-1].id, count - len(events)


def _seconds(call: Callable[[], object], times: int) -> float:
    """Return the median time of a call."""
    found = []
    for _ in range(times):
        started = time.perf_counter()
        call()
        found.append(time.perf_counter() - started)
    return statistics.median(found)


def _features(folder: Path, rounds: int, found: Found) -> None:
    """What features and prototypes cost the learner, in this process."""
    extractor = FrozenExtractor(ModelConfig(backbone="efficientnet_lite0"), BackboneStore(folder / "backbones"))
    batch = examples(8)
    extractor(batch)
    with watched_store(folder) as watched:
        for _ in range(rounds):
            before = time.process_time()
            for _ in range(4):
                features = extractor(_anew(batch))
            _note(found, "feature_us", 1e6 * (time.process_time() - before) / (4 * len(batch)))
            twenty = np.concatenate([features, features, features])[:20]
            before = time.process_time()
            for number in range(50):
                prototype = Prototype(vector=mean_direction(twenty), count=20)
                watched.store.prototypes.put(1, {f"class {number}": prototype}, 0.0)
            _note(found, "prototype_us", 1e6 * (time.process_time() - before) / 50)
    extractor.close()


def _steps(data_dir: Path, classes: int, rounds: int, found: Found) -> None:
    """What a step costs the learner and the store, and what each server adds to it, at a number of classes."""

    def note(name: str, value: float) -> None:
        _note(found, f"{name}@{classes}", max(value, 1.0))

    preload(data_dir, Size(classes=classes, examples=classes * _PER_CLASS))
    feature_us = statistics.median(found["feature_us"])
    with watched_store(data_dir) as watched:
        base_us = statistics.median(_base_us(watched) for _ in range(rounds))
        _note(found, "base_us", base_us)
        with worker("learn", data_dir, {}) as learner:
            _committed(watched, learner)
            note("first_us", learner.cpu_us())
            # The second is the first that brings what was solved up to date, as all later ones do.
            _step(watched, learner, classes, _Resting(learner_us=0.0, store_us=0.0, store_bytes=0.0))
            for _ in range(rounds):
                resting = _resting(watched, learner)
                note("learner_look_us", resting.learner_us)
                note("look_us", resting.store_us - base_us)
                note("look_bytes", resting.store_bytes)
                one = _step(watched, learner, classes, resting)
                note("step_us", one.learner_us - feature_us)
                note("solve_us", (one.learner_us - feature_us) * one.solving)
                note("step_store_us", one.store_us - one.seconds * base_us)
                note("step_store_bytes", one.store_bytes)
                _note(found, "step_events", one.events)
        version = watched.store.registry.state().version
        files = list((data_dir / "versions" / f"v{version:06d}").iterdir())
        note("version_bytes", sum(file.stat().st_size for file in files))
        note("version_files", len(files))
        note("record_bytes", watched.client.hstrlen(watched.keys.versions, str(version)))
        without = [_announced(watched, version - number % 2) for number in range(2 * rounds)]
        with worker("serve", data_dir, {}) as server:
            server.address()
            until(lambda: bool(server.live()), what="the server")
            _announced(watched, version, server)
            before_us = statistics.median(one.cpu_us for one in without) - _ANNOUNCED_S * base_us
            before_bytes = statistics.median(one.out_bytes for one in without)
            for _ in range(rounds):
                time.sleep(1.0)
                store, own, began = watched.used(), server.cpu_us(), time.monotonic()
                time.sleep(3.0)
                later, took = watched.used().since(store), time.monotonic() - began
                follow_us, server_us = later.cpu_us / took, (server.cpu_us() - own) / took
                note("follow_us", follow_us - base_us)
                note("follow_bytes", later.out_bytes / took)
                for turn in (1, 0):
                    own, began = server.cpu_us(), time.monotonic()
                    told = _announced(watched, version - turn, server)
                    took = time.monotonic() - began
                    note("swap_store_us", told.cpu_us - before_us - took * follow_us)
                    note("swap_store_bytes", told.out_bytes - before_bytes - took * later.out_bytes / 3)
                    note("swap_server_us", server.cpu_us() - own - took * server_us)


def _base_us(watched: WatchedStore) -> float:
    """Return what a store uses by itself in a second."""
    before, began = watched.used(), time.monotonic()
    time.sleep(3.0)
    return watched.used().since(before).cpu_us / (time.monotonic() - began)


def _announced(watched: WatchedStore, version: int, server: Worker | None = None) -> Used:
    """Make a version live with the events that a step has, and return what that cost the store."""
    seen = len(server.swaps()) if server else 0
    before = watched.used()
    for phase in ("staging", "training", "committing", "waiting"):
        watched.store.events.append("phase", {"phase": phase, "reason": "1 new example of a known class"})
        time.sleep(0.05)
    watched.store.registry.activate(version)
    if server is None:
        time.sleep(_ANNOUNCED_S - 0.2)
    else:
        until(lambda: len(server.swaps()) > seen, what="the swap")
        time.sleep(0.2)
    return watched.used().since(before)


@dataclass(frozen=True, kw_only=True)
class _Resting:
    """What a learner uses in a second in which there is nothing to do."""

    learner_us: float
    store_us: float
    store_bytes: float


@dataclass(frozen=True, kw_only=True)
class _Step:
    """What a step used, beyond what is used at rest."""

    learner_us: float
    store_us: float
    store_bytes: float
    solving: float
    """Part of the step's time that solving for the head and judging it took."""
    seconds: float
    """Of the step."""
    events: int


def _resting(watched: WatchedStore, learner: Worker) -> _Resting:
    """Wait a while in which nothing happens."""
    time.sleep(1.0)
    store, own, began = watched.used(), learner.cpu_us(), time.monotonic()
    time.sleep(3.0)
    later, seconds = watched.used().since(store), time.monotonic() - began
    return _Resting(
        learner_us=(learner.cpu_us() - own) / seconds,
        store_us=later.cpu_us / seconds,
        store_bytes=later.out_bytes / seconds,
    )


def _committed(watched: WatchedStore, learner: Worker, after: str = "0") -> StoredEvent:
    """Wait for a commit after an event, as one more server would."""
    until_s = time.monotonic() + 900
    while time.monotonic() < until_s and not learner.ended:
        for event in watched.store.events.read(after, 2000):
            after = event.id
            if event.kind == "committed":
                return event
    raise RuntimeError(f"the learner committed nothing: {learner.log()[-3000:]}")


def _step(watched: WatchedStore, learner: Worker, classes: int, resting: _Resting) -> _Step:
    """Teach one example of a known class, and return what the step after it used."""
    label = f"class {np.random.default_rng().integers(classes)}"
    image = Example(id=uuid.uuid4().hex, label=label, content=_any_image())
    last = watched.store.events.last_id()
    store, own, began = watched.used(), learner.cpu_us(), time.monotonic()
    watched.store.pending.add([image])
    event = _committed(watched, learner, last)
    time.sleep(0.5)
    later, learner_us, took = watched.used().since(store), learner.cpu_us() - own, time.monotonic() - began
    stages = watched.store.registry.version(int(event.body["version"])).stage_seconds
    events = watched.store.events.read(last, count=1000)
    staged = next(one.time_ms for one in events if one.kind == "phase" and one.body["phase"] == "staging")
    step_s = (event.time_ms - staged) / 1000
    rested_s = max(took - step_s, 0.0)  # while it is at a step it does not look
    return _Step(
        learner_us=learner_us - rested_s * resting.learner_us,
        store_us=later.cpu_us - rested_s * resting.store_us,
        store_bytes=later.out_bytes - rested_s * resting.store_bytes,
        solving=stages["solving"] / max(step_s - stages["features"], stages["solving"]),
        seconds=step_s,
        events=len(events),
    )


def _any_image() -> NDArray[np.uint8]:
    return next(photographs(1, seed=int.from_bytes(os.urandom(4), "big")))


def _serving(data_dir: Path, rounds: int, found: Found) -> None:
    """What answering and taking in costs a server."""
    sizes = (1, 8, 32)
    with (
        watched_store(data_dir),
        worker("serve", data_dir, {}) as server,
        Client(server.address(), timeout=300) as client,
    ):
        until(lambda: bool(server.live()), what="the server")
        for image in photographs(4):
            client.predict(image)
        for number in range(rounds):
            images = list(photographs(32, seed=number))
            before = server.cpu_us()
            for image in images:
                client.predict(image)
            _note(found, "predict_us", (server.cpu_us() - before) / len(images))
            by_size = {}
            for size in sizes:
                before = server.cpu_us()
                calls = 32 // size
                for first in range(0, 32, size):
                    chosen = images[first : first + size]
                    client.add_examples([("class 1", image, uuid.uuid4().hex) for image in chosen])
                by_size[size] = (server.cpu_us() - before) / calls
            call, each = _line(by_size)
            _note(found, "server_add_call_us", call)
            _note(found, "server_add_example_us", each)


def _note(found: Found, name: str, value: float) -> None:
    found.setdefault(name, []).append(value)
