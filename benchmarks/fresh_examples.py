"""How soon one example counts: from its acknowledgement to the first answer of a version that has learned it.

A whole node on a closed form, with so many classes and examples learned that their features are put into the store
before it starts. Then single images come: of classes that nobody has heard of, and corrections of known ones; a caller
waits until a version that has it is live, and asks.

Shapes: n examples, d feature length.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accrete import Client
from accrete_learner.config import ModelConfig
from accrete_learner.frozen_backbone import frozen_backbone
from accrete_node import presets
from accrete_storage.config import HoldoutConfig, StoreConfig
from accrete_storage.embedded.server import EmbeddedStore, socket_url
from accrete_storage.examples.features import Kind, pack_features
from accrete_storage.redis.database import Database
from accrete_storage.redis.keys import Keys
from accrete_storage.store import Store
from benchmarks.node import Node, cpu_s
from benchmarks.report import Row, arguments, machine, median_row, show
from benchmarks.waiting import until

_PATIENCE_S = 120.0
_APART_S = (1.2, 1.7)  # between two examples, so that none waits for the version before
_BATCH = 2000
_CLOSE = 0.6  # share of an example's feature that is its class's

SETTINGS = """
preset = "{preset}"
[server]
port = {port}
metrics_port = 0
[learner]
metrics_port = 0
[log]
format = "text"
"""


@dataclass(frozen=True, kw_only=True)
class Size:
    """What is known when the single examples come."""

    classes: int
    examples: int
    embedding: int = 0
    """d of embeddings that are taught; 0: photographs, by the default backbone."""
    bounds: tuple[float, float] | None = None
    """Seconds, p50 and p99."""

    @property
    def name(self) -> str:
        """For people."""
        kind = f"embeddings of {self.embedding}" if self.embedding else "photographs"
        return f"{self.classes:,} classes, {self.examples:,} {kind}"


PLAN = (
    Size(classes=6, examples=600),
    Size(classes=100, examples=10_000, bounds=(0.5, 1.5)),
    Size(classes=1_000, examples=10_000),
    Size(classes=1_000, examples=100_000, bounds=(1.0, 3.0)),
    *(Size(classes=100, examples=10_000, embedding=length) for length in (256, 512, 1_024, 1_984, 4_096)),
)


@dataclass(kw_only=True)
class Found:
    """Seconds."""

    new: list[float] = field(default_factory=list)
    known: list[float] = field(default_factory=list)
    second: list[float] = field(default_factory=list)
    """Of an example that follows another at once."""
    parts: dict[str, list[float]] = field(default_factory=dict)
    right: int = 0
    """New classes that were answered by that version."""
    processor: list[float] = field(default_factory=list)
    """Of the learner, the server and the store together, for each example; what else it took was waiting."""
    start: float = 0.0
    """From the start of the node to its first version."""


def main() -> None:
    """Run the benchmark. The exit status is 1 when a bound is not kept."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--only", type=int, nargs="*", help="numbers of the sizes to measure, from 0", metavar="N")
    parser.add_argument("--rounds", type=int, default=0, help="new classes, and corrections, that are timed")
    parsed = parser.parse_args()
    facts = machine()
    chosen = PLAN[:2] if parsed.short else PLAN
    rounds = parsed.rounds or (10 if parsed.short else 50)
    rows: list[Row] = []
    for number, size in enumerate(chosen):
        if parsed.only is None or number in parsed.only:
            with tempfile.TemporaryDirectory(prefix="accrete-fresh-") as folder:
                rows += _rows(size, run(Path(folder), size, rounds))
    show(rows, facts, parsed.json)
    raise SystemExit(any(row.ok is False for row in rows))


def run(folder: Path, size: Size, rounds: int) -> Found:
    """Measure one size on a node of its own in `folder`."""
    node, found = Node(folder, settings={"model.embedding": str(size.embedding)} if size.embedding else {}), Found()
    node.config.write_text(SETTINGS.format(preset="embeddings" if size.embedding else "photographs", port=node.port))
    preload(node.data_dir, size)
    started = time.perf_counter()
    node.start()
    try:
        with node.ready(600) as client:
            until(lambda: client.status().version > 0, seconds=1800, what="the first version")
            found.start = time.perf_counter() - started
            with node.store() as store:
                _teach(node, client, store, size, rounds, found)
    except BaseException:
        print(node.log()[-3000:])
        raise
    finally:
        node.stop()
    return found


def _teach(node: Node, client: Client, store: Store, size: Size, rounds: int, found: Found) -> None:
    """Teach single examples, and at last two at once."""
    inputs, chance = _inputs(size), random.Random(1993)
    processes = [until(lambda: node.pid(name), what=name) for name in ("learner", "server", "store")]  # noqa: B023
    before = sum(map(cpu_s, processes))
    for number in range(rounds):
        time.sleep(chance.uniform(*_APART_S))
        found.new.append(_time(client, store, next(inputs), f"new {number}", found))
        time.sleep(chance.uniform(*_APART_S))
        found.known.append(_time(client, store, next(inputs), _label(chance.randrange(size.classes)), found))
    found.processor.append((sum(map(cpu_s, processes)) - before) / (2 * rounds))
    for _ in range(min(rounds, 10)):
        time.sleep(chance.uniform(*_APART_S))
        _time(client, store, next(inputs), _label(0), Found())
        found.second.append(_time(client, store, next(inputs), _label(1), Found()))


def _time(client: Client, store: Store, tensor: NDArray[Any], label: str, found: Found) -> float:
    """Teach one example and return the seconds until a version that has learned it answers."""
    before = client.status().version
    report = client.add_examples([(label, tensor)])
    acknowledged, acknowledged_ms = time.perf_counter(), 1000 * time.time()
    if report.refused:
        raise RuntimeError(f"refused: {report.refused[0]}")
    # Asking without a pause would take the processor from what is timed.
    client.wait_learned(report.ids, timeout=_PATIENCE_S)
    answer = client.predict(tensor, top_k=1)
    seconds = time.perf_counter() - acknowledged
    if answer.version <= before:
        raise RuntimeError(f"answered by version {answer.version}, as before")
    found.right += label.startswith("new") and answer.label == label
    record = store.registry.version(answer.version)
    if record.consumed != {label: 1}:
        raise RuntimeError(f"version {answer.version} learned {record.consumed}")
    for name, value in _parts(store, record.stage_seconds, acknowledged_ms, seconds).items():
        found.parts.setdefault(name, []).append(value)
    return seconds


def _parts(store: Store, stages: Mapping[str, float], acknowledged_ms: float, seconds: float) -> dict[str, float]:
    """Return where the time went; the store and this process have the same clock."""
    events = store.events.read("0", count=100_000)
    began_ms = max(e.time_ms for e in events if e.kind == "phase" and e.body["phase"] == "staging")
    committed_ms = max(e.time_ms for e in events if e.kind == "committed")
    return {
        "until the step begins": (began_ms - acknowledged_ms) / 1000,
        **stages,
        "committing": (committed_ms - began_ms) / 1000 - sum(stages.values()),
        "loading, swapping and answering": seconds - (committed_ms - acknowledged_ms) / 1000,
    }


def _rows(size: Size, found: Found) -> list[Row]:
    both = sorted([*found.new, *found.known])
    bounds = [f"<= {bound}" for bound in size.bounds] if size.bounds else ["", ""]
    return [
        _of(both, 0.5, f"{size.name}: p50", bounds[0]),
        _of(both, 0.99, f"{size.name}: p99", bounds[1]),
        median_row("of a new class", found.new, "s"),
        median_row("of a known class", found.known, "s"),
        median_row("the second of two at once", found.second, "s"),
        *(median_row(f"  {name}", values, "s") for name, values in found.parts.items()),
        median_row("processor time for an example", found.processor, "s"),
        Row(name="new classes answered at once", value=100 * found.right / len(found.new), unit="%"),
        Row(name="start of the node to its first version", value=found.start, unit="s"),
    ]


def _of(ordered: Sequence[float], share: float, name: str, bound: str) -> Row:
    value = float(np.quantile(ordered, share, method="higher"))
    return Row(name=name, value=value, unit="s", spread=(ordered[0], ordered[-1]), bound=bound)


def preload(data_dir: Path, size: Size) -> None:
    """Begin a data directory whose store has the features of examples that were learned."""
    data_dir.mkdir(parents=True)
    presets.keep(data_dir, "embeddings" if size.embedding else "photographs")
    model = (
        ModelConfig(backbone="identity", embedding=size.embedding)
        if size.embedding
        else ModelConfig(backbone="efficientnet_lite0")
    )
    backbone = frozen_backbone(model)
    kind: Kind = "float16" if backbone.spec.is_image else "float32"
    config = StoreConfig()
    server = EmbeddedStore(data_dir, config)
    server.start()
    try:
        with_forms = Store.connect(config, HoldoutConfig(), data_dir=data_dir)
        with_forms.bind_model(str(model.input_spec))
        with_forms.close()
        client, keys = Database(socket_url(data_dir), timeout_s=60).client, Keys(config.prefix)
        for label, ids, features in _learned(size, backbone.feature_length):
            client.hset(keys.features(label), mapping=pack_features(ids, features, kind))
            client.sadd(keys.kept, label)
        client.hset(keys.state, "features", backbone.digest)
        client.close()
    finally:
        server.stop()


def _learned(size: Size, length: int) -> Iterator[tuple[str, list[str], NDArray[np.float32]]]:
    """Yield label, ids and features [n, d] of unit length: directions of classes and of examples, mixed."""
    generator = np.random.default_rng(1993)
    for number in range(size.classes):
        count = size.examples // size.classes
        mean, own = generator.standard_normal(length), generator.standard_normal((count, length))
        features = _CLOSE * mean / np.linalg.norm(mean) + own / np.linalg.norm(own, axis=1, keepdims=True)
        features /= np.linalg.norm(features, axis=1, keepdims=True)
        yield _label(number), [f"{number}-{n}" for n in range(count)], features.astype(np.float32)


def _inputs(size: Size) -> Iterator[NDArray[Any]]:
    """Yield embeddings, or images that are smooth as photographs are."""
    generator = np.random.default_rng(7)
    while True:
        if size.embedding:
            vector = generator.standard_normal(size.embedding)
            yield (vector / np.linalg.norm(vector)).astype(np.float32)
        else:
            coarse = generator.integers(0, 256, (7, 7, 3))
            fine = generator.integers(0, 256, (56, 56, 3))
            image = 0.7 * coarse.repeat(32, 0).repeat(32, 1) + 0.3 * fine.repeat(4, 0).repeat(4, 1)
            yield image.astype(np.uint8)


def _label(number: int) -> str:
    return f"class {number}"


if __name__ == "__main__":
    main()
