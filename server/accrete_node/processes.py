"""The processes of the server, the learner and the page, and the commands that a supervisor starts them with."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from importlib import import_module

from accrete_kit import dependencies
from accrete_kit.atomic_file import write_text
from accrete_kit.plain import plain
from accrete_learner.deep.refusal import refusal
from accrete_learner.method_names import ANALYTIC
from accrete_model.errors import BucketRefused
from accrete_node import log, presets
from accrete_node.describe import render
from accrete_node.exit_status import CANNOT_START
from accrete_node.libraries import check_learning, check_serving
from accrete_node.settings import Settings, SettingsError
from accrete_node.weights import CACHE_FOLDER, check_weights
from accrete_storage.errors import StorageError

RUN_FOLDER = "run"
_SETTINGS_FILE = "settings.toml"

_log = logging.getLogger(__name__)


def serve(settings: Settings) -> int:
    """Run the server until it is told to end, and return the exit status."""
    # Neither the supervisor nor the other processes have a use for gRPC or for what looks into the store.
    from accrete_learner_service.waiting import pending_waits_for
    from accrete_server.app import serve as run
    from accrete_server.settings import ServerSettings

    memory, trigger, closed = settings.memory, settings.trigger, settings.method.name == ANALYTIC

    def checked() -> None:
        check_serving(settings)
        run(
            ServerSettings(
                data_dir=settings.data_dir,
                spec=settings.input_spec,
                method=settings.method.name,
                deep_refusal=refusal(settings.model, settings.method, settings.deep),
                exemplar_budget=lambda classes: classes * memory.per_class(classes) if classes else 0,
                waits_for=lambda store: pending_waits_for(store, trigger, learns_all=closed),
                warnings=lambda classes: [text for text in (memory.too_small(classes),) if text],
                server=settings.server,
                store=settings.store,
                holdout=settings.holdout,
                engine=settings.engine,
                artifacts=settings.artifacts,
                access=settings.access,
                teaching=settings.teaching,
                inbox=settings.inbox,
            )
        )

    return _run(settings, "server", checked)


def learn(settings: Settings) -> int:
    """Run the learner until it is told to end, and return the exit status."""
    import_module("accrete_storage.redis.database")  # what a base installation lacks is told before anything is written

    def checked() -> None:
        check_learning(settings)
        from accrete_learner_service.app import learn as run  # needs what has been checked

        check_weights(settings)
        run(settings.learner_service, settings.store, settings.holdout, settings.data_dir, settings.artifacts)

    return _run(settings, "learner", checked)


def page(settings: Settings) -> int:
    """Run the page until it is told to end, and return the exit status."""
    from accrete_node.page import page_settings  # the other processes have no use for a web server
    from accrete_page.serving import serve as run

    return _run(settings, "page", lambda: run(page_settings(settings)))


def _run(settings: Settings, name: str, run: Callable[[], None]) -> int:
    log.set_up(settings.log, name)
    try:
        begin_data_dir(settings)
        dependencies.cache_in(settings.data_dir / CACHE_FOLDER)
        run()
    except (SettingsError, StorageError, BucketRefused, OSError, ValueError) as error:
        _log.error("process.cannot_start", extra={"reason": plain(error)})
        print(f"accrete: {name}: {plain(error)}", file=sys.stderr)
        return CANNOT_START
    return 0


def begin_data_dir(settings: Settings) -> None:
    """Make the data directory if it is not there, and write down the preset that it is begun with.

    Raises:
        SettingsError: it cannot be used.
    """
    make_data_dir(settings)
    try:
        presets.keep(settings.data_dir, settings.preset)
    except OSError as error:
        raise SettingsError([f"data_dir = {str(settings.data_dir)!r}: {error.strerror}"]) from error


def make_data_dir(settings: Settings) -> None:
    """Make the data directory if it is not there.

    Raises:
        SettingsError: it cannot be used.
    """
    name = str(settings.data_dir)
    if "\0" in name or not name.isascii() and name.encode(errors="replace").decode() != name:
        raise SettingsError([f"data_dir = {name!r}: a name in UTF-8 is allowed"])
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError([f"data_dir = {str(settings.data_dir)!r}: {error.strerror}"]) from error
    if not os.access(settings.data_dir, os.W_OK | os.X_OK):
        raise SettingsError([f"data_dir = {str(settings.data_dir)!r}: it must be writable"])


def command(settings: Settings, name: str) -> list[str]:
    """Write the settings to the data directory, and return the command that runs a process with them.

    Args:
        settings: of the node.
        name: `serve`, `learn` or `page`.
    """
    folder = settings.data_dir / RUN_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / _SETTINGS_FILE
    write_text(file, render(settings, explained=False), mode=0o600)  # store.url may have a password
    return [sys.executable, "-m", "accrete_node", name, str(file)]
