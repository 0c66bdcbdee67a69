"""The papers' protocols on CIFAR-100 in full, published figures beside ours, until the time ends.

A run goes on where it was when the same command is given again on the same machine.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from accrete_experiments.protocols import data as sources
from accrete_experiments.protocols import orders
from accrete_experiments.protocols.data import Dataset
from accrete_experiments.protocols.results import Task
from accrete_experiments.protocols.run import TASK_FILE, TRAINED_FOLDER, Plan, task_folder
from accrete_experiments.protocols.run import run as run_plan
from accrete_experiments.protocols.spec import Protocol
from accrete_learner.config import ModelConfig, TrainingConfig
from accrete_learner.memory.config import MemoryConfig
from benchmarks.digits import scans
from benchmarks.gpu.record import OutOfTime, Record, read
from benchmarks.gpu.settings import Settings
from benchmarks.report import Row

_COMPILE_S = 60.0
"""Guess of what torch.compile takes a task, where the training part has not measured it."""
_STOP_S = 4.0
"""Before the part's end a run stops itself."""


@dataclass(frozen=True, kw_only=True)
class PublishedRow:
    """One row of a paper's table."""

    method: str
    base: int
    step: int
    memory: str
    """`20/class`, or a total."""
    rule: str
    """`head` or `nme`: by which the published figure is."""
    average: float
    """Average incremental accuracy in percent, the first task included."""
    source: str


def _published(method: str, base: int, step: int, memory: str, rule: str, average: float, source: str) -> PublishedRow:
    return PublishedRow(method=method, base=base, step=step, memory=memory, rule=rule, average=average, source=source)


_LUCIR = "Hou et al., CVPR 2019, CNN"
_ICARL = "Rebuffi et al., CVPR 2017"
_FOSTER = "as told by FOSTER, ECCV 2022"
_MNEMONICS = "Liu et al., CVPR 2020, as corrected in the authors' repository"
ROWS = (
    _published("lucir_no_balance", 50, 5, "20/class", "head", 60.18, _LUCIR),
    _published("mnemonics_lucir", 50, 5, "20/class", "head", 62.28, _MNEMONICS),
    _published("icarl", 50, 10, "2000", "nme", 58.03, _MNEMONICS),
    _published("lucir", 50, 5, "20/class", "head", 60.18, _LUCIR),
    _published("icarl", 10, 10, "2000", "nme", 64.1, _ICARL),
    _published("lucir_no_balance", 50, 10, "20/class", "head", 63.2, _LUCIR),
    _published("icarl", 50, 5, "2000", "nme", 53.01, _MNEMONICS),
    _published("mnemonics_icarl", 50, 10, "2000", "nme", 60.01, _MNEMONICS),
    _published("mnemonics_icarl", 50, 5, "2000", "nme", 57.37, _MNEMONICS),
    _published("lwf_exemplars", 50, 10, "2000", "head", 52.44, _MNEMONICS),
    _published("mnemonics_lwf", 50, 10, "2000", "head", 54.21, _MNEMONICS),
    _published("mnemonics_lucir", 50, 10, "20/class", "head", 63.34, _MNEMONICS),
    _published("bic", 50, 10, "2000", "head", 59.36, _MNEMONICS),
    _published("bic", 10, 10, "2000", "head", 65.08, _FOSTER),
    _published("wa", 10, 10, "2000", "head", 67.08, _FOSTER),
    _published("lucir_no_balance", 50, 2, "20/class", "head", 57.57, _LUCIR),
    _published("eeil", 10, 10, "2000", "head", 62.55, "as told by CIL-Zoo"),
    _published("foster", 50, 10, "2000", "head", 70.10, "FOSTER, ECCV 2022, of both backbones"),
)
"""In the order in which they are run."""

_TINY = (_published("lucir_no_balance", 2, 2, "5/class", "head", 60.0, "none"),)


def run(record: Record, settings: Settings) -> None:
    """Run each row in a cell of its own."""
    dataset = _digits() if settings.tiny else _cifar100(record, settings.work / "cifar100")
    if dataset is None:
        return
    compiled = _is_compiled(record, settings)
    digest = sources.digest(dataset)
    for row in _TINY if settings.tiny else ROWS:
        name = f"{row.method}, B{row.base} in steps of {row.step}, {row.memory}"
        plan = plan_of(row, dataset, digest, settings, compiled=compiled)
        record.cell(name, partial(_row, record, settings, row, plan, dataset), needs_s=1.0 if settings.tiny else 30.0)


def plan_of(row: PublishedRow, dataset: Dataset, digest: str, settings: Settings, *, compiled: bool) -> Plan:
    """Return what the product's own protocol runner is to do for a row."""
    total = 6 if settings.tiny else 100
    size, _, per_class = row.memory.partition("/")
    budget = MemoryConfig(kind="per_class" if per_class else "total", size=int(size))
    network = ModelConfig(backbone="resnet8", input_size=8, channels=1) if settings.tiny else ModelConfig()
    training = TrainingConfig(device=settings.device, compile=compiled, threads=1 if settings.tiny else 0)  # type: ignore[arg-type]
    protocol = Protocol(
        data="digits" if settings.tiny else "cifar100",
        digest=digest,
        classes=total,
        base=row.base,
        step=row.step,
        epochs="2" if settings.tiny else "",
        model=network,
        training=replace(training, batch_size=16) if settings.tiny else training,
        memory=budget,
    )
    arrival = list(range(total)) if settings.tiny else orders.order(protocol.order, len(dataset.names))
    tasks = orders.stream(arrival, base=row.base, step=row.step, total=total)
    # Rows of other steps and memories begin with the same first task.
    trained = settings.work / "protocols" / TRAINED_FOLDER
    return Plan(asked=row.method, seed=1993, protocol=protocol, tasks=tasks, trained=trained)


def _row(record: Record, settings: Settings, row: PublishedRow, plan: Plan, dataset: Dataset) -> Iterator[Row]:
    folder = settings.work / "protocols" / f"{row.base}-{row.step}-{row.memory.replace('/', '-')}"
    folder.mkdir(parents=True, exist_ok=True)

    def progress(number: int, stage: str, done: int, total: int, loss: float) -> None:
        where = f"task {number} of {len(plan.tasks)}"
        print(f"{plan.name}: {where}, {stage} {done} of {total}, loss {loss:.3f}", flush=True)
        if record.left_s < _STOP_S and not settings.tiny:
            raise OutOfTime(f"in {where}; the same command goes on there")

    try:
        tasks = list(run_plan(plan, dataset, folder, progress).tasks)
        over = True
    except OutOfTime as error:
        tasks, over, reason = _finished(folder, plan), False, str(error)
    yield from _rows(row, plan, tasks, over=over)
    if not over:
        raise OutOfTime(reason)


def _finished(folder: Path, plan: Plan) -> list[Task]:
    """Return the tasks that are whole so far."""
    files = [task_folder(folder, plan, number) / TASK_FILE for number in range(1, len(plan.tasks) + 1)]
    return [Task.from_dict(json.loads(file.read_text(encoding="utf-8"))) for file in files if file.exists()]


def _rows(row: PublishedRow, plan: Plan, tasks: list[Task], *, over: bool) -> Iterator[Row]:
    yield Row(name="tasks", value=len(tasks), unit=f"of {len(plan.tasks)}")
    for rule in ("head", "nme"):
        accuracies = [100 * sum(task.scores[rule].hits) / sum(task.totals) for task in tasks]
        for number, accuracy in enumerate(accuracies, 1):
            yield Row(name=f"{rule}, after task {number}", value=accuracy, unit="%")
        if over:
            average = sum(accuracies) / len(accuracies)
            yield Row(name=f"{rule}, average", value=average, unit="%")
            if rule == row.rule:
                yield Row(name=f"published ({row.source}), {rule}, average", value=row.average, unit="%")
                # A better figure is no failure: only what is missing to the published one counts.
                yield Row(
                    name="short of the published one by", value=row.average - average, unit="points", bound="<= 1"
                )
    seconds = sum(sum(task.seconds.values()) for task in tasks)
    images = sum(task.images for task in tasks)
    is_bound = over and (row.method, row.base, row.step) == ("lucir", 50, 5)
    yield Row(name="all steps", value=seconds, unit="s", bound="<= 300" if is_bound else "")
    training = sum(task.seconds.get("train", 0.0) for task in tasks)
    yield Row(name="in training", value=images / max(training, 1e-9), unit="images/s")


def _is_compiled(record: Record, settings: Settings) -> bool:
    """Return whether torch.compile pays, by what the training part found: each task of a protocol compiles anew."""
    if not settings.on_gpu:
        return False
    cells = read(settings.work / "records" / "training.jsonl")["cells"]
    found = {}
    for name in ("ours, bfloat16", "ours, bfloat16, compile"):
        rows = cells.get(name, {}).get("rows", ()) if cells.get(name, {}).get("state") == "done" else ()
        found[name] = {row["name"]: row["value"] for row in rows}
    eager, compiled = found.values()
    if not eager or not compiled:
        record.note("trained eagerly: the training part has not measured both ways")
        return False
    # LUCIR's B50 in steps of 5 is the measure: 10.3 million images in 11 tasks.
    plain = 10.3e6 / eager["images/s"]
    other = 10.3e6 / compiled["images/s"] + 11 * max(0.0, compiled["first round"] - eager["first round"])
    chosen = "compiled" if other < plain else "eagerly"
    record.note(f"trained {chosen}: LUCIR with ten steps would take {plain:.0f} s eagerly and {other:.0f} s compiled")
    return bool(other < plain)


def _cifar100(record: Record, folder: Path) -> Dataset | None:
    """Return CIFAR-100 from the parts that were carried along; None, with a note, while one is missing."""
    packed = folder / "packed"
    if not (packed / "names.txt").exists():
        halves = whole(folder)
        if len(halves) != 2:
            record.note("no CIFAR-100: not all pieces of its two parts are here yet; the protocols were left out")
            return None
        print("unpacking CIFAR-100", flush=True)
        unpack(halves, packed)
    return sources.load(str(packed))


def whole(folder: Path) -> list[Path]:
    """Return the parts of which all pieces, NAME.NN-of-MM, were carried here, each put together in the folder."""
    for name in {piece.name.rpartition(".")[0] for piece in folder.glob("part*.npz.*-of-*")}:
        pieces = sorted(folder.glob(f"{name}.*-of-*"))
        if len(pieces) == int(pieces[0].name.rpartition("-")[2]) and not (folder / name).exists():
            joined = folder / f"{name}.joined"
            joined.write_bytes(b"".join(piece.read_bytes() for piece in pieces))
            joined.rename(folder / name)
    return sorted(folder.glob("part*.npz"))


def unpack(halves: list[Path], folder: Path) -> None:
    """Decode the carried parts (lossless WebP) to arrays that `protocols.data.load` reads; the names come last."""
    folder.mkdir(parents=True, exist_ok=True)
    images: dict[bool, list[NDArray[np.uint8]]] = {False: [], True: []}
    labels: dict[bool, list[int]] = {False: [], True: []}
    names: list[str] = []
    for half in halves:
        with np.load(half) as pack:
            blob, offsets, is_test = pack["webp"].tobytes(), pack["offsets"], pack["is_test"]
            names = [str(name) for name in pack["names"]]
            for number, label in enumerate(pack["labels"].tolist()):
                images[bool(is_test[number])].append(_decoded(blob[offsets[number] : offsets[number + 1]]))
                labels[bool(is_test[number])].append(label)
    for part, tested in (("train", False), ("test", True)):
        order = np.argsort(labels[tested], kind="stable")
        np.save(folder / f"{part}_images.npy", np.stack(images[tested])[order])
        np.save(folder / f"{part}_labels.npy", np.array(labels[tested], np.int64)[order])
    (folder / "names.txt").write_text("\n".join(names) + "\n", encoding="utf-8")


def _decoded(encoded: bytes) -> NDArray[np.uint8]:
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))


def _digits() -> Dataset:
    """Return scikit-learn's digits, 8 x 8 grey, for the rehearsal."""
    x, y = scans()
    rows = [np.flatnonzero(y == label) for label in range(10)]
    train, test = np.concatenate([own[:20] for own in rows]), np.concatenate([own[60:80] for own in rows])
    names = tuple(f"digit {label}" for label in range(10))
    return Dataset(train_x=x[train], train_y=y[train], test_x=x[test], test_y=y[test], names=names)
