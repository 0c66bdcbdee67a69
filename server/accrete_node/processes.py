"""The two processes of our own, `serve` and `learn`, and the commands that a supervisor starts them with."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path

from accrete_learner.budget import quota
from accrete_node import log
from accrete_node.describe import render
from accrete_node.settings import Settings
from accrete_node.supervisor import CANNOT_START
from accrete_storage.errors import StorageError

RUN_FOLDER = "run"
_SETTINGS_FILE = "settings.toml"

_log = logging.getLogger(__name__)


def serve(settings: Settings) -> int:
    """Run the server until it is told to end; answers the exit status."""
    from accrete_server.app import serve as run  # the learner's process has no use for gRPC

    memory = settings.memory
    return _run(
        settings,
        "server",
        lambda: run(
            settings.server,
            settings.store,
            settings.holdout,
            settings.engine,
            settings.input_spec,
            settings.data_dir,
            method=settings.method.name,
            exemplar_budget=lambda classes: classes * quota(memory, classes) if classes else 0,
        ),
    )


def learn(settings: Settings) -> int:
    """Run the learner until it is told to end; answers the exit status."""
    from accrete_learner_service.app import learn as run

    return _run(
        settings,
        "learner",
        lambda: run(settings.learner_service, settings.store, settings.holdout, settings.data_dir),
    )


def _run(settings: Settings, name: str, run: Callable[[], None]) -> int:
    log.set_up(settings.log, name)
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    try:
        run()
    except (StorageError, OSError, ValueError) as error:
        _log.error("cannot_start", extra={"reason": str(error)})
        print(f"accrete: {name}: {error}", file=sys.stderr)
        return CANNOT_START
    return 0


def command(settings: Settings, name: str) -> list[str]:
    """The command that runs `serve` or `learn` with exactly these settings, which are written to the data directory."""
    folder = settings.data_dir / RUN_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / _SETTINGS_FILE
    _write(file, render(settings, explained=False))
    return [sys.executable, "-m", "accrete_node", name, str(file)]


def _write(file: Path, text: str) -> None:
    temporary = file.with_suffix(".tmp")
    temporary.write_text(text)
    temporary.replace(file)
