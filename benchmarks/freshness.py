"""How soon a new class is answered, what that costs the classes known before, and how soon it is trained.

A whole node learns some classes; then labels nobody has heard of come with three examples each, and a caller asks until
they are among the answers. After that new classes come for good: a few examples, most of them, the last ones; accuracy
is measured at each point on images that were never taught.
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accrete import Client
from accrete_experiments.protocols import data
from accrete_learner_service.config import GateConfig
from benchmarks.digits import scans_by_label
from benchmarks.node import Node
from benchmarks.report import Row, arguments, machine, median_row, show
from benchmarks.variants import add_flags, by_turns
from benchmarks.waiting import until

FEW = 3
"""Examples from which on a new class is answered, by default."""
UNKNOWN_RATE = 0.05
TRAINED_IN = ("build", "train", "rebalance", "memory", "head")
"""A step's own stages: what its method computes."""
_AROUND = ("load", "export")
"""What the trainer does besides."""
_PAUSE_S = 0.005  # between two questions
_PATIENCE_S = 60.0
_SETTLED_S = 2.5  # servers look for what is not announced, such as a better prototype, once a second

Images = list[NDArray[np.uint8]]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is taught."""

    taught: Mapping[str, Images]
    """By label, `each` images."""
    unseen: Mapping[str, Images]
    old: Sequence[str]
    """Learned first."""
    groups: Sequence[Sequence[str]]
    """Of new classes, one step each."""
    strangers: int
    """Labels that come and go, to time how soon they are answered."""
    settings: Mapping[str, str]

    @property
    def each(self) -> int:
        """Examples of a class."""
        return len(self.taught[self.old[0]])


@dataclass(kw_only=True)
class Found:
    """What was measured: seconds, and accuracies by group."""

    answered: list[float] = field(default_factory=list)
    """From the acknowledgement of a label's examples to the first answer with it."""
    published: list[float] = field(default_factory=list)
    """Of these, until the learner had published it."""
    live: list[float] = field(default_factory=list)
    """From the acknowledgement of a step's last example to the live version."""
    stages: list[Mapping[str, float]] = field(default_factory=list)
    accuracies: list[Mapping[str, float]] = field(default_factory=list)
    false_alarms: float = 0.0
    """Share of images of known classes that are called unknown, at `UNKNOWN_RATE`."""
    alarms: float = 0.0
    """The same of classes that were never taught."""


def main() -> None:
    """Run the benchmark. The exit status is 1 when a bound is not kept."""
    parser = arguments(__doc__ or "")
    parser.add_argument(
        "--data", help="images as for `accrete bench protocol --data`, of 30 classes or more; without: scans of digits"
    )
    add_flags(parser)
    parsed = parser.parse_args()
    facts = machine()
    plan = _of_digits(short=parsed.short) if parsed.data is None else _of_data(parsed.data, short=parsed.short)

    def measured(folder: Path, settings: Mapping[str, str], parts: int) -> list[Row]:
        strangers = plan.strangers // parts
        own = replace(plan, strangers=strangers, settings={**plan.settings, **settings})
        return _rows(run(folder, own), own)

    with tempfile.TemporaryDirectory(prefix="accrete-freshness-") as folder:
        rows = by_turns(parsed, Path(folder), measured)
    show(rows, facts, parsed.json)
    raise SystemExit(any(row.ok is False for row in rows))


def _of_digits(*, short: bool) -> Plan:
    scans = scans_by_label()
    settings = {"training.base_epochs": "8" if short else "20", "training.epochs": "4" if short else "10"}
    return Plan(
        taught={label: images[:100] for label, images in scans.items()},
        unseen={label: images[100:] for label, images in scans.items()},
        old=list("01234"),
        groups=[[label] for label in ("56" if short else "56789")],
        strangers=20 if short else 100,
        settings=settings | {"holdout.share": "0.2"},
    )


def _of_data(source: str, *, short: bool) -> Plan:
    found = data.load(source)
    names = [found.names[row] for row in np.random.default_rng(1993).permutation(len(found.names))]
    old, groups = names[:20], [names[20:25], names[25:30]]
    rows = {name: row for row, name in enumerate(found.names)}
    each = 60 if short else 100

    def images(x: Any, y: Any, count: int) -> dict[str, Images]:
        return {name: list(x[data.indices(y, [rows[name]], per_class=count)]) for name in names[:30]}

    settings = {
        "model.backbone": "resnet32",
        "model.input_size": str(found.train_x.shape[1]),
        "model.channels": str(found.train_x.shape[3]),
        "training.base_epochs": "2" if short else "12",
        "training.epochs": "2" if short else "6",
        "training.batch_size": "128",
        "training.augmentation": "auto",
        "training.threads": "0",
        "memory.size": "20",
    }
    return Plan(
        taught=images(found.train_x, found.train_y, each),
        unseen=images(found.test_x, found.test_y, 100),
        old=old,
        groups=groups[: 1 if short else 2],
        strangers=20 if short else 100,
        settings=settings,
    )


def run(folder: Path, plan: Plan) -> Found:
    """Run the plan on a node of its own in `folder`."""
    steps = {
        "trigger.first_classes": str(len(plan.old)),
        "trigger.classes_per_step": str(len(plan.groups[0])),
        "trigger.min_examples": str(plan.each),
        "trigger.settle_s": "1.0",  # the default, which the node of the tests shortens
    }
    node, found = Node(folder, settings={**steps, **plan.settings}), Found()
    node.start()
    try:
        with node.ready() as client:
            report = client.add_examples((label, image) for label in plan.old for image in plan.taught[label])
            client.wait_learned(report.ids, timeout=1800)
            _time_strangers(node, client, plan, found)
            strangers = [label for label in plan.unseen if label not in plan.old]
            found.false_alarms, found.alarms = _unknown(client, plan, plan.old), _unknown(client, plan, strangers)
            known = list(plan.old)
            for group in plan.groups:
                _teach_group(node, client, plan, group, known, found)
                known += group
    finally:
        node.stop()
    return found


def _time_strangers(node: Node, client: Client, plan: Plan, found: Found) -> None:
    """Labels nobody has heard of, one after the other at moments that no poll knows; then all are taken back."""
    images = [image for group in plan.groups for label in group for image in plan.taught[label]]
    chance, ids, acknowledged_ms = random.Random(1993), [], {}
    for number in range(plan.strangers):
        label = f"stranger {number}"
        own = [images[(number * FEW + n) % len(images)] for n in range(FEW)]
        time.sleep(chance.uniform(0, 0.5))
        report = client.add_examples((label, image) for image in own)
        acknowledged, acknowledged_ms[label] = time.perf_counter(), 1000 * time.time()
        ids += report.ids
        while all(one.label != label for one in client.predict(own[0], top_k=1000).ranked):
            time.sleep(_PAUSE_S)
            if time.perf_counter() - acknowledged > _PATIENCE_S:
                raise TimeoutError(f"{label} was not answered in {_PATIENCE_S} s")
        found.answered.append(time.perf_counter() - acknowledged)
    with node.store() as store:
        events = [event for event in store.events.read("0", count=100_000) if event.kind == "provisional"]
    told = {event.body["label"]: event.time_ms for event in events}
    found.published += [(told[label] - ms) / 1000 for label, ms in acknowledged_ms.items()]
    client.delete_examples(ids)
    until(lambda: client.status().provisional_classes == 0, what="taking back")


def _teach_group(
    node: Node, client: Client, plan: Plan, group: Sequence[str], known: Sequence[str], found: Found
) -> None:
    """A few examples of each class, then all but one, then that one, which starts a step."""
    reached = {"old, alone": _accuracy(client, plan, known)}
    _add(client, plan, group, 0, FEW)
    until(lambda: client.status().provisional_classes == len(group), what="provisional classes")
    time.sleep(_SETTLED_S)
    reached["old, beside a few"] = _accuracy(client, plan, known)
    reached["new, a few"] = _accuracy(client, plan, group)
    _add(client, plan, group, FEW, plan.each - 1)
    time.sleep(_SETTLED_S)
    reached["old, beside most"] = _accuracy(client, plan, known)
    reached["new, most"] = _accuracy(client, plan, group)
    image, before = plan.unseen[group[0]][0], client.status().version
    _add(client, plan, group, plan.each - 1, plan.each)
    acknowledged = time.perf_counter()
    until(lambda: client.predict(image).version > before, seconds=1800, what="the next version")
    found.live.append(time.perf_counter() - acknowledged)
    with node.store() as store:
        record = store.registry.version(before + 1)
        found.stages.append(record.stage_seconds | {"step": record.step_seconds})
    reached["old, after the step"] = _accuracy(client, plan, known)
    reached["new, after the step"] = _accuracy(client, plan, group)
    found.accuracies.append(reached)


def _add(client: Client, plan: Plan, labels: Sequence[str], start: int, stop: int) -> None:
    report = client.add_examples((label, image) for label in labels for image in plan.taught[label][start:stop])
    if report.refused:
        raise RuntimeError(f"refused: {report.refused[0]}")


def _accuracy(client: Client, plan: Plan, labels: Sequence[str]) -> float:
    """On what was never taught, each label counting alike."""
    of_each = []
    for label in labels:
        answers = client.predict(plan.unseen[label], top_k=1)
        of_each.append(sum(answer.label == label for answer in answers) / len(answers))
    return statistics.fmean(of_each)


def _unknown(client: Client, plan: Plan, labels: Sequence[str]) -> float:
    images = [image for label in labels for image in plan.unseen[label]]
    answers = client.predict(images, top_k=1, unknown_rate=UNKNOWN_RATE)
    return sum(answer.unknown for answer in answers) / len(answers)


def _rows(found: Found, plan: Plan) -> list[Row]:
    answered = sorted(found.answered)
    beyond = [live - _training(stages) for live, stages in zip(found.live, found.stages, strict=True)]
    lost = [100 * (one["old, alone"] - one["old, beside a few"]) for one in found.accuracies]
    lost_to_most = [100 * (one["old, alone"] - one["old, beside most"]) for one in found.accuracies]
    few = f"{FEW} examples"
    rows = [
        Row(name="new classes timed", value=len(answered), unit=""),
        _of(answered, 0.5, "acknowledged to answered, p50", "<= 0.3"),
        _of(answered, 0.99, "acknowledged to answered, p99", "<= 1"),
        median_row("of this until the learner has published it", found.published, "s"),
        median_row("last example acknowledged to live, beyond training", beyond, "s", "<= 2"),
        *(median_row(f"of this: {name}", values, "s") for name, values in _parts(found).items()),
        median_row("training itself", [_training(stages) for stages in found.stages], "s"),
        Row(name="classes known, new classes a step", value=len(plan.old), unit=f"+ {len(plan.groups[0])}"),
    ]
    names = {
        "old, alone": "accuracy on known classes, alone",
        "old, beside a few": f"the same beside provisional ones of {few}",
        "old, after the step": "the same after the next step",
        "new, a few": f"accuracy on provisional classes of {few}",
        "new, most": f"the same of {plan.each - 1} examples",
        "new, after the step": "the same after the next step, trained",
    }
    rows += [median_row(name, [100 * one[key] for one in found.accuracies], "%") for key, name in names.items()]
    bound = f"<= {100 * GateConfig().max_old_drop:g}"
    rows.append(median_row(f"lost on known classes to provisional ones of {few}", lost, "points", bound))
    rows.append(median_row(f"the same to those of {plan.each - 1} examples", lost_to_most, "points", bound))
    rate = f"at {100 * UNKNOWN_RATE:g} % of false alarms"
    rows.append(Row(name=f"called unknown {rate}: known classes", value=100 * found.false_alarms, unit="%"))
    rows.append(Row(name=f"called unknown {rate}: classes never taught", value=100 * found.alarms, unit="%"))
    return rows


def _training(stages: Mapping[str, float]) -> float:
    return sum(stages.get(name, 0.0) for name in TRAINED_IN)


def _parts(found: Found) -> dict[str, list[float]]:
    """Return where the time beyond training goes, by step; what no stage accounts for is the wait for more examples
    (`trigger.settle_s`), the commit and the swap."""
    parts: dict[str, list[float]] = {}
    for live, stages in zip(found.live, found.stages, strict=True):
        named = {name: stages.get(name, 0.0) for name in ("staging", *_AROUND)}
        inside = _training(stages) + sum(stages.get(name, 0.0) for name in _AROUND)
        named["handing over to the trainer"] = stages["training"] - inside
        named["measuring and gate"] = stages["gating"]
        named["publishing"] = stages["step"] - sum(stages[name] for name in ("staging", "training", "gating"))
        named["waiting for more, commit and swap"] = live - stages["step"]
        for name, seconds in named.items():
            parts.setdefault(name, []).append(seconds)
    return parts


def _of(ordered: Sequence[float], share: float, name: str, bound: str) -> Row:
    value = float(np.quantile(ordered, share, method="higher"))
    return Row(name=name, value=value, unit="s", spread=(ordered[0], ordered[-1]), bound=bound)


if __name__ == "__main__":
    main()
