"""Runs the methods that were asked for, and writes what they came to."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accrete_experiments.bench.display import Display
from accrete_experiments.bench.options import ProtocolOptions
from accrete_kit import dependencies
from accrete_kit.atomic_file import write_json
from accrete_kit.plain import plain
from accrete_learner.config import IDENTITY, ModelConfig, TrainingConfig
from accrete_learner.memory.config import MemoryConfig
from accrete_node.exit_status import CANNOT_START

if TYPE_CHECKING:
    from accrete_experiments.protocols.data import Dataset
    from accrete_experiments.protocols.published import Published
    from accrete_experiments.protocols.results import Run
    from accrete_experiments.protocols.run import Plan
    from accrete_experiments.protocols.spec import Protocol

PROTOCOL_FILE = "protocol.json"
PROGRESS_FILE = "progress.txt"
"""How far it is, in a line."""


class BenchError(Exception):
    """What was asked for cannot be done; the message is for the user."""


def run(options: ProtocolOptions) -> int:
    """`accrete bench protocol`; answers the exit status."""
    display = Display()
    try:
        _perform(options, display)
    except (BenchError, ValueError, OSError) as error:
        print(f"accrete: {plain(error)}", file=sys.stderr)
        return CANNOT_START
    except KeyboardInterrupt:
        display.say("interrupted; the same command goes on where it was")
        return 130
    return 0


def _perform(options: ProtocolOptions, display: Display) -> None:
    # Before the data is read, which may take minutes.
    _memory(options.memory)
    if options.shorter_side is not None and options.size is None:
        raise BenchError(f"--shorter-side {options.shorter_side}: goes with a --size")
    from accrete_experiments.protocols import data as sources
    from accrete_experiments.protocols import published, spec
    from accrete_learner.training.precision import use_threads

    if options.published is not None and not options.figures:
        raise BenchError("--published: goes with --figures")
    points = () if options.published is None else published.read(options.published)
    for name in _asked(options):
        spec.parse(name)
    dataset = sources.load(
        options.data, size=options.size, shorter_side=_shorter_side(options), download=options.download
    )
    protocol = _protocol(options, dataset)
    folder: Path = options.out
    _claim(folder, protocol)
    use_threads(options.threads)
    plans = list(_plans(options, protocol, dataset))
    if not options.report:
        _run_all(plans, dataset, folder, display)
    _report(folder, plans, dataset, display, figures=options.figures, published=points)
    if options.live:
        from accrete_experiments.bench.live import play

        for plan in plans:
            finished = _finished(_run_file(folder, plan.name))
            play(plan, dataset, folder, finished, display, threads=options.threads)


def _protocol(options: ProtocolOptions, dataset: Dataset) -> Protocol:
    from accrete_experiments.protocols import data as sources
    from accrete_experiments.protocols.spec import Protocol

    shape = tuple(dataset.train_x.shape[1:])
    return Protocol(
        data=options.data,
        digest=sources.digest(dataset),
        classes=options.classes or len(dataset.names),
        base=options.base,
        step=options.step,
        order=options.order,
        per_class=options.per_class,
        epochs=options.epochs,
        model=_model(options, shape),
        training=TrainingConfig(
            batch_size=options.batch_size,
            schedule=options.schedule,
            augmentation=options.augmentation,
            precision=options.precision,
            compile=options.compile,
            device=options.device,
            copies=options.copies,
        ),
        memory=_memory(options.memory),
        exemplar_pixels=options.exemplar_pixels,
        synthesis_iterations=options.synthesis_iterations,
    )


def _asked(options: ProtocolOptions) -> list[str]:
    return [name.strip() for name in options.methods.split(",") if name.strip()]


def _model(options: ProtocolOptions, shape: tuple[int, ...]) -> ModelConfig:
    if len(shape) == 1:
        return ModelConfig(backbone=IDENTITY, embedding=shape[0])
    return _image_model(options, shape[0], shape[2])


def _shorter_side(options: ProtocolOptions) -> int:
    """Return what a server with this network would bring an image's shorter side to. Not used without a --size."""
    if options.size is None or options.backbone == IDENTITY:
        return 0
    return _image_model(options, options.size, 3).shorter_side or 0


def _image_model(options: ProtocolOptions, size: int, channels: int) -> ModelConfig:
    return ModelConfig(
        backbone=options.backbone or "resnet32",
        input_size=size,
        channels=channels,
        weights=options.weights,
        shorter_side=options.shorter_side,
    )


def _memory(text: str) -> MemoryConfig:
    number, slash, unit = text.partition("/")
    if not number.isdecimal() or (slash and unit != "class"):
        raise BenchError(f"--memory {text}: a number in all such as 2000, or such as 20/class, is allowed")
    return MemoryConfig(kind="per_class" if slash else "total", size=int(number))


def _claim(folder: Path, protocol: Protocol) -> None:
    """One folder holds one protocol: figures of two must not come into one table."""
    from accrete_experiments.protocols.spec import Protocol as Stored

    folder.mkdir(parents=True, exist_ok=True)
    file = folder / PROTOCOL_FILE
    if not file.exists():
        write_json(file, protocol.to_dict())
        return
    # The digest says which data these are; where they lie may change.
    stored = replace(Stored.from_dict(_read(file)), data=protocol.data)
    if stored != protocol:
        mine, theirs = protocol.to_dict(), stored.to_dict()
        different = ", ".join(
            f"{name} {theirs[name]!r} there, {mine[name]!r} here" for name in mine if mine[name] != theirs[name]
        )
        raise BenchError(f"--out {folder} holds another protocol ({different}); choose another folder")


def _read(file: Path) -> dict[str, Any]:
    """Return what a file says. Raises BenchError for one that is empty or damaged, as a loss of power leaves it."""
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BenchError(f"{file} is damaged ({error}): remove it and call this again, which makes it anew") from error
    return found


def _plans(options: ProtocolOptions, protocol: Protocol, dataset: Dataset) -> Iterator[Plan]:
    """Seed by seed, so that a comparison of all methods is there as early as can be."""
    from accrete_experiments.protocols import orders
    from accrete_experiments.protocols.run import Plan

    for seed in options.seed_numbers:
        arrival = orders.order(seed if protocol.order == "seed" else protocol.order, len(dataset.names))
        tasks = orders.stream(arrival, base=protocol.base, step=protocol.step, total=protocol.classes)
        for name in _asked(options):
            yield Plan(
                asked=name,
                seed=seed,
                protocol=protocol,
                tasks=tasks,
                rules=options.rule_names,
                trained=options.trained,
            )


def _run_all(plans: Sequence[Plan], dataset: Dataset, folder: Path, display: Display) -> None:
    """Each run in turn; those that another process works on are left to it."""
    from accrete_experiments.protocols import work
    from accrete_experiments.protocols.run import Busy
    from accrete_experiments.protocols.run import run as run_plan

    with display.runs(work.of_runs(plans, dataset, folder), folder / PROGRESS_FILE) as bar:
        for plan in plans:
            name = plan.name
            if _run_file(folder, name).exists():
                bar.skip(name)
                continue
            try:
                finished = run_plan(plan, dataset, folder, bar.progress(name), bar.task_done(name))
            except Busy:
                display.say(f"{name}: another process works on it")
                bar.skip(name)
                continue
            write_json(_run_file(folder, name), finished.to_dict())
            display.finished(finished)


def _run_file(folder: Path, name: str) -> Path:
    return folder / "runs" / name / "run.json"


def _finished(file: Path) -> Run:
    from accrete_experiments.protocols.results import Run
    from accrete_experiments.protocols.spec import Protocol

    found = Run.from_dict(_read(file))
    # A setting that came after the run was written has its default there; the data may have lain elsewhere.
    name = _read(file.parents[2] / PROTOCOL_FILE)["data"]
    return replace(found, protocol=replace(Protocol.from_dict(found.protocol), data=name).to_dict())


def _report(
    folder: Path,
    plans: Sequence[Plan],
    dataset: Dataset,
    display: Display,
    *,
    figures: bool,
    published: Sequence[Published],
) -> None:
    """Of every run in the folder that is finished, asked for this time or not."""
    from accrete_experiments.protocols import report

    runs = [_finished(file) for file in sorted((folder / "runs").glob("*/run.json"))]
    if not runs:
        return
    _, table = report.write(folder, runs)
    display.say(table.read_text(encoding="utf-8"))
    if figures:
        dependencies.cache_in(folder / "cache")
        from accrete_experiments.protocols.drawing import draw

        for path in draw(folder, plans, runs, dataset, published):
            display.say(str(path))
