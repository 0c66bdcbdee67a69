"""The same stream of classes through a live node: taught over gRPC, learned by its learner, measured by Predict."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accrete_experiments.bench.display import Display
from accrete_experiments.live.data import Dataset as TaughtDataset
from accrete_experiments.live.data import Split
from accrete_experiments.live.display import Display as SessionDisplay
from accrete_experiments.live.runner import LOG_FILE, NEVER, SessionThread, log_end, no_settings_file, run_session
from accrete_experiments.live.session import Course
from accrete_experiments.protocols import measures
from accrete_experiments.protocols.data import Dataset
from accrete_experiments.protocols.results import Run
from accrete_experiments.protocols.run import Plan, examples
from accrete_kit.atomic_file import write_json
from accrete_node.settings import Settings, load_settings
from accrete_node.up import Signals, supervisor

LIVE_FOLDER = "live"
#: Calls per second beside the learning: enough to see one fail, too few to slow the training.
_RATE = 5.0


class LiveFailed(RuntimeError):
    """The live run did not come to its end; the message has the last lines of the processes' log."""


def play(
    plan: Plan, data: Dataset, folder: Path, finished: Run | None, display: Display, *, threads: int
) -> dict[str, Any]:
    """Play `plan` through a node of its own in a temporary folder; write what it came to beside the offline figures.

    Args:
        plan: the run, with the same order, memory, epochs and seed as offline.
        data: its images.
        folder: of the protocol; gets live/NAME.json.
        finished: the offline run to stand beside it; None when there is none.

    Raises:
        LiveFailed: when the loop does not come round.
    """
    with tempfile.TemporaryDirectory(prefix="accrete-live-", ignore_cleanup_errors=True) as name:
        settings = load_settings(_flags(plan, Path(name), threads), no_settings_file(Path(name)), resolved=True)
        summary = _perform(plan, data, settings)
    rule = settings.method.rule or plan.method.rule
    offline = None if finished is None else [measures.top1(task, rule) for task in finished.tasks]
    live = [version["accuracy"] for version in summary["versions"]]
    write_json(
        _made(folder / LIVE_FOLDER) / f"{plan.name}.json",
        {"rule": rule, "live": live, "offline": offline, "summary": summary, "protocol": plan.protocol.to_dict()},
    )
    display.say(f"{plan.name}, live, by {rule}: {_row(live)}; offline: {_row(offline or [])}")
    return summary


def _perform(plan: Plan, data: Dataset, settings: Settings) -> dict[str, Any]:
    running, signals = supervisor(settings, settings.data_dir / LOG_FILE), Signals()
    session = SessionThread(_course(plan, data), settings.data_dir, SessionDisplay())
    try:
        run_session(running, session, signals)
    finally:
        running.end(hurry=lambda: signals.count > 1)
    if signals.count:
        raise KeyboardInterrupt
    if session.summary is None:
        raise LiveFailed(f"{session.error}\n{log_end(settings.data_dir)}")
    return session.summary


def _course(plan: Plan, data: Dataset) -> Course:
    groups = [[data.names[index] for index in task] for task in plan.tasks]
    used = [index for task in plan.tasks for index in task]
    taught = [examples(plan, data, number + 1) for number in range(len(plan.tasks))]
    seen = [np.flatnonzero(data.test_y == index) for index in used]
    return Course(
        dataset=TaughtDataset(
            name=plan.protocol.data,
            train=Split(
                images=[image for x, _ in taught for image in _images(x.numpy())],
                labels=[data.names[used[int(label)]] for _, y in taught for label in y],
            ),
            test=Split(
                images=[image for own in seen for image in _images(data.test_x[own])],
                labels=[data.names[index] for index, own in zip(used, seen, strict=True) for _ in own],
            ),
            classes=[data.names[index] for index in used],
            flip=True,
        ),
        groups=groups,
        seed=plan.seed,
        idle_s=1.0,
        rate=_RATE,
        step_timeout_s=24 * 3600.0,
    )


def _images(x: NDArray[Any]) -> list[NDArray[Any]]:
    return list(x)


def _flags(plan: Plan, data_dir: Path, threads: int) -> dict[str, Any]:
    protocol, config = plan.protocol, plan.config
    training = asdict(plan.training) | {"threads": threads}
    return {
        "data_dir": data_dir,
        "model": asdict(protocol.model),
        "server": {"port": 0, "metrics_port": 0},
        "page": {"enabled": False},
        "method": {name: value for name, value in asdict(config).items() if value},
        "training": {name: value for name, value in training.items() if value is not None},
        "memory": asdict(protocol.memory),
        # Every image is trained on, as it is offline; what measures is the data's own test set, over gRPC.
        "holdout": {"share": 0.0},
        "trigger": {"min_examples": NEVER, "max_wait_s": NEVER, "refresh_examples": NEVER},
        "gate": {"enabled": False},
        "learner": {"metrics_port": 0},
        "log": {"format": "text"},
    }


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _row(shares: list[Any]) -> str:
    return " ".join("-" if share is None else f"{100 * share:.1f}" for share in shares)
