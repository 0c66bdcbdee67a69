"""Start the processes of the demonstration, run it, and end them whatever happens."""

from __future__ import annotations

import json
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accrete_experiments.demo.data import DataError, digits, folder, groups, input_size
from accrete_experiments.demo.options import DemoOptions
from accrete_experiments.live.data import Dataset
from accrete_experiments.live.display import Display
from accrete_experiments.live.runner import LOG_FILE, NEVER, SessionThread, log_end, no_settings_file, run_session
from accrete_experiments.live.session import Course
from accrete_kit.dependencies import installed
from accrete_kit.plain import plain
from accrete_learner.backbone_names import is_frozen
from accrete_learner.method_names import ANALYTIC
from accrete_node import presets
from accrete_node.exit_status import CANNOT_START
from accrete_node.libraries import check_learning, check_serving
from accrete_node.settings import Settings, SettingsError, load_settings
from accrete_node.supervisor import CannotStart
from accrete_node.up import Signals, addresses, supervisor
from accrete_node.weights import check_weights
from accrete_storage.errors import StorageError

INTERRUPTED = 130
SMALL_SIDE = 16
"""Images up to this many pixels a side go to the small network."""
RATE, PHOTOGRAPHS_RATE = 40.0, 10.0
"""Predict calls per second: a photograph is some fifty times the work of a digit."""
_DIGITS_NEED = ("sklearn", "torch")


def run(options: DemoOptions) -> int:
    """Run the demonstration and return the exit status."""
    try:
        _check_summary(options.summary)
        dataset = _dataset(options)
        with _data_dir(options.keep) as data_dir:
            settings = load_settings(_flags(options, dataset, data_dir), no_settings_file(data_dir), resolved=True)
            check_learning(settings)
            check_serving(settings)
            check_weights(settings)
            return _run(options, dataset, settings)
    except (DataError, SettingsError, StorageError) as error:
        print(f"accrete: {plain(error)}", file=sys.stderr)
        return CANNOT_START


def _check_summary(file: Path | None) -> None:
    """What cannot be written at the end had better be told now."""
    if file is not None and (file.is_dir() or not file.absolute().parent.is_dir()):
        raise DataError(f"--summary {file}: a file in a folder that is there is allowed")


def _dataset(options: DemoOptions) -> Dataset:
    if options.data is None:
        if not all(map(installed, _DIGITS_NEED)):
            raise DataError(
                "without --data it trains a network on digits, which needs PyTorch and scikit-learn "
                '(pip install "accrete[server]"); --data DIR learns photographs with what is installed'
            )
        return digits(options.seed)
    return folder(options.data, options.seed, options.classes)


@contextmanager
def _data_dir(kept: Path | None) -> Iterator[Path]:
    if kept is not None:
        if kept.exists() and (not kept.is_dir() or any(kept.iterdir())):
            raise DataError(f"--keep {kept}: a new or empty folder is allowed; a demonstration starts from nothing")
        kept.mkdir(parents=True, exist_ok=True)
        yield kept
        return
    with tempfile.TemporaryDirectory(prefix="accrete-demo-", ignore_cleanup_errors=True) as folder_name:
        yield Path(folder_name)


def _method(options: DemoOptions) -> str:
    """Return the method that was asked for, or the one that learns what is shown the soonest."""
    at_once = options.data is not None and (options.backbone is None or is_frozen(options.backbone))
    return options.method or (ANALYTIC if at_once else "lucir")


def _flags(options: DemoOptions, dataset: Dataset, data_dir: Path) -> dict[str, Any]:
    """Return the settings of the demonstration. Where they differ from the defaults, a comment says why."""
    common = {
        "data_dir": data_dir,
        "engine": {"engine": options.engine},
        "memory": {"kind": "per_class", "size": options.budget},
        # Open, so that a method which forgets can be seen forgetting.
        "gate": {"enabled": False},
        "log": {"format": "text"},
        "page": {"enabled": options.page},
    }
    flags = _at_once(options) if _method(options) == ANALYTIC else _in_steps(options, dataset)
    flags["server"] = flags.get("server", {}) | {"port": 0, "metrics_port": 0}
    flags["learner"] = flags.get("learner", {}) | {"metrics_port": 0}
    flags["method"] = {"name": _method(options), "rule": options.rule or ""}
    return common | flags


def _at_once(options: DemoOptions) -> dict[str, Any]:
    """Return the settings of the preset photographs, with the network that was asked for."""
    asked = {"backbone": options.backbone, "input_size": options.input_size}
    chosen = presets.values("photographs", ANALYTIC)
    return chosen | {"model": chosen["model"] | {name: value for name, value in asked.items() if value}}


def _in_steps(options: DemoOptions, dataset: Dataset) -> dict[str, Any]:
    """Return settings with which a network is trained while one watches, a step for each group of classes."""
    side = options.input_size or input_size(dataset)
    training = {
        # Of the papers' 160 epochs, a third: enough for small images, and it ends while one watches.
        "base_epochs": options.base_epochs or 50,
        "epochs": options.epochs or 50,
        "learning_rate": options.learning_rate,
        "batch_size": options.batch_size or 32,
        "seed": options.seed,
        # On a small network a second thread costs more than it gives.
        "threads": 1 if side <= SMALL_SIDE else 0,
        "augmentation": "crop_flip" if dataset.flip else "crop",
    }
    return {
        "model": {
            "backbone": options.backbone or ("resnet8" if side <= SMALL_SIDE else "resnet32"),
            "input_size": side,
            "channels": 3 if dataset.flip else 1,
        },
        "training": {name: value for name, value in training.items() if value is not None},
        "holdout": {"share": 0.1},
        # A step starts when it is asked for, once a whole group of classes is there: every run has the same steps.
        "trigger": {"min_examples": NEVER, "max_wait_s": NEVER, "refresh_examples": NEVER},
    }


def _run(options: DemoOptions, dataset: Dataset, settings: Settings) -> int:
    display = Display()
    signals = Signals()
    running = supervisor(settings, settings.data_dir / LOG_FILE)
    at_once = settings.method.name == ANALYTIC
    course = Course(
        dataset=dataset,
        groups=groups(dataset.classes, options.first, options.per_step),
        seed=options.seed,
        idle_s=options.idle,
        rate=options.rate or (PHOTOGRAPHS_RATE if at_once else RATE),
        step_timeout_s=options.step_timeout,
        at_once=at_once,
    )
    _introduce(display, course, settings)
    session = SessionThread(course, settings.data_dir, display)
    try:
        with display.live():
            display.busy("starting the processes")
            if options.page:
                threading.Thread(target=_tell_page, args=(display, settings.data_dir, session), daemon=True).start()
            run_session(running, session, signals)
        if options.page and session.summary is not None and not signals.count:
            status = _conclude(options, display, session, signals, settings.data_dir)
            display.say("the page and all behind it stay until Ctrl-C")
            running.run(until=lambda: signals.count > 0)
            return status
    except (CannotStart, StorageError) as error:
        display.say(f"{error}\n{log_end(settings.data_dir)}", "red")
        return CANNOT_START
    finally:
        running.end(hurry=lambda: signals.count > 1)
    return _conclude(options, display, session, signals, settings.data_dir)


def _tell_page(display: Display, data_dir: Path, session: SessionThread) -> None:
    """Say where the page is, once it is there."""
    while not session.over:
        if (found := addresses(data_dir, "page")) is not None:
            display.say(f"the page is at {found['address']}")
            return
        time.sleep(0.1)


def _conclude(options: DemoOptions, display: Display, session: SessionThread, signals: Signals, data_dir: Path) -> int:
    if signals.count:
        display.say("interrupted; everything has been ended")
        return INTERRUPTED
    if session.summary is None:
        display.say(f"{session.error}\n{log_end(data_dir)}", "red")
        return 1
    display.summary(session.summary)
    if options.summary is not None:
        options.summary.write_text(json.dumps(session.summary, indent=2) + "\n")
    return 0


def _introduce(display: Display, course: Course, settings: Settings) -> None:
    dataset, counts = course.dataset, [len(group) for group in course.groups]
    display.say(
        f"{dataset.name}: {len(dataset.train.labels)} images to teach, {len(dataset.test.labels)} kept aside to test; "
        f"{len(dataset.classes)} classes in steps of {' + '.join(map(str, counts))}"
    )
    display.say(
        f"method {settings.method.name}, {settings.model.backbone} at {settings.input_spec}, "
        f"{settings.memory.size} exemplars per class, {course.rate:g} Predict calls per second throughout"
    )
    display.say("")
