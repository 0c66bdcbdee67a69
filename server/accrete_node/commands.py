"""`accrete up`, `serve`, `learn` and `demo` on the command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from types import ModuleType
from typing import Any

from accrete_node.settings import Settings, SettingsError, load_settings
from accrete_node.supervisor import CANNOT_START

Subparsers = Any
"""argparse's own type for what `add_subparsers` answers is private."""

_SETTINGS_HELP = """\
Settings come from flags, the environment (ACCRETE_SERVER__PORT=50052), a TOML file (--config, ACCRETE_CONFIG, or
accrete.toml in the data directory) and defaults, in this order. `accrete up --print-config` prints all of them with
what they mean. Exit status: 0 ended as told, 2 settings or data that cannot be used."""

_FLAGS = {
    "--data-dir": ("data_dir", "DIR", "folder of everything that must last (default: accrete-data)"),
    "--port": ("server.port", "PORT", "gRPC port; 0: any free one (default: 50051)"),
    "--host": ("server.host", "ADDRESS", "address to listen on (default: 127.0.0.1, this machine alone)"),
    "--redis": ("store.url", "URL", "a Redis >= 7.0 or Valkey to use in place of the embedded store"),
    "--method": ("method.name", "NAME", "how a step learns; docs/methods.md has them all (default: lucir)"),
    "--backbone": ("model.backbone", "NAME", "resnet32 (default), resnet8, identity, or a torchvision model"),
    "--engine": ("engine.engine", "NAME", "onnxruntime (default) or torch"),
}


_OF_DATA = ("--data-dir", "--redis")
"""Of the flags above, those that say where the data is."""


def add_up(subparsers: Subparsers) -> None:
    """Add `accrete up`."""
    _add(
        subparsers,
        "up",
        "start the store, the server and the learner, and keep them running",
        "Starts everything on this machine and stays until Ctrl-C or SIGTERM, which ends all of it in order within\n"
        "ten seconds. Started again on the same data directory, it serves the same model.\n\n"
        "example: accrete up --data-dir /srv/accrete --port 50051",
        _up,
    )


def add_serve(subparsers: Subparsers) -> None:
    """Add `accrete serve`."""
    _add(
        subparsers,
        "serve",
        "start one server, for more machines than one",
        "Starts one server on a store that runs already. Servers share the store and the folder of versions.\n\n"
        "example: accrete serve --redis redis://store:6379 --data-dir /mnt/accrete --host 10.0.0.5 \\\n"
        "           --set access.certificate=server.pem --set access.private_key=server.key",
        _serve,
    )


def add_learn(subparsers: Subparsers) -> None:
    """Add `accrete learn`."""
    _add(
        subparsers,
        "learn",
        "start the learner, for more machines than one",
        "Starts the learner on a store that runs already. One learns at a time; a second one waits for it.\n\n"
        "example: accrete learn --redis redis://store:6379 --data-dir /mnt/accrete",
        _learn,
        told=(*_OF_DATA, "--method", "--backbone", "--engine"),
    )


def add_backup(subparsers: Subparsers) -> None:
    """Add `accrete backup`."""
    parser = _add(
        subparsers,
        "backup",
        "write everything that must last into a folder, while it runs",
        "Writes examples, exemplars, hold-out and all ready versions, as of one moment, into a new folder.\n\n"
        "example: accrete backup /backups/monday --data-dir /srv/accrete",
        lambda arguments: _with_settings(arguments, lambda settings: _backup().back_up(settings, arguments.folder)),
        told=_OF_DATA,
    )
    parser.add_argument("folder", metavar="DIR", type=Path, help="where to; a folder that is new or empty")


def add_restore(subparsers: Subparsers) -> None:
    """Add `accrete restore`."""
    parser = _add(
        subparsers,
        "restore",
        "put a backup into a new data directory",
        "Checks every byte of a backup, then puts it into a data directory that has no store yet, or into the empty\n"
        "store that --redis names. Start `accrete up` afterwards.\n\n"
        "example: accrete restore /backups/monday --data-dir /srv/accrete",
        lambda arguments: _with_settings(arguments, lambda settings: _backup().restore(settings, arguments.folder)),
        told=_OF_DATA,
    )
    parser.add_argument("folder", metavar="DIR", type=Path, help="the backup")


def _backup() -> ModuleType:
    from accrete_node import backup

    return backup


def add_token(subparsers: Subparsers) -> None:
    """Add `accrete token`."""
    parser = subparsers.add_parser(
        "token",
        help="make a token for a caller",
        description="Prints a new token, once, and adds the line that lets it in (its hash) to the file of principals\n"
        "that access.tokens names. Running servers see it within a second or two.\n\n"
        "example: accrete token shop-app --roles predict,teach --file /etc/accrete/tokens",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", metavar="NAME", help="the principal's name, as the audit log tells it; no spaces")
    parser.add_argument("--roles", required=True, metavar="ROLE,ROLE", help="predict, teach, operate, metrics")
    parser.add_argument("--file", required=True, type=Path, metavar="FILE", help="the file of principals")
    parser.add_argument(
        "--certificate", action="store_true", help="let in who shows a certificate of that common name; no token"
    )
    parser.set_defaults(run=_token)


def _token(arguments: argparse.Namespace) -> int:
    from accrete_server.access import tokens

    token = None if arguments.certificate else tokens.new_token()
    try:
        tokens.add(arguments.file, tokens.line(arguments.name, arguments.roles.split(","), token))
    except (OSError, ValueError) as error:
        print(f"accrete: {error}", file=sys.stderr)
        return CANNOT_START
    if token is not None:
        print(token)
    return 0


def _add(
    subparsers: Subparsers,
    name: str,
    summary: str,
    description: str,
    run: Callable[[argparse.Namespace], int],
    *,
    told: Collection[str] = tuple(_FLAGS),
) -> argparse.ArgumentParser:
    """`told`: the flags that its help has; it takes the others as well, so that one set of flags does for all."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        name,
        help=summary,
        description=f"{description}\n\n{_SETTINGS_HELP}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", metavar="FILE", type=Path, help="settings file (TOML)")
    for flag, (_, metavar, meaning) in _FLAGS.items():
        parser.add_argument(flag, metavar=metavar, help=meaning if flag in told else argparse.SUPPRESS)
    parser.add_argument(
        "--set", metavar="SECTION.FIELD=VALUE", action="append", default=[], help="any setting; may be repeated"
    )
    parser.add_argument(
        "--insecure",
        action="store_true",
        help="listen on other addresses than this machine's own without encryption"
        if "--host" in told
        else argparse.SUPPRESS,
    )
    parser.add_argument("--print-config", action="store_true", help="print all settings as a file, and end")
    parser.set_defaults(run=run)
    return parser


def _up(arguments: argparse.Namespace) -> int:
    from accrete_node.up import up

    return _with_settings(arguments, up)


def _serve(arguments: argparse.Namespace) -> int:
    from accrete_node.processes import serve

    return _with_settings(arguments, serve)


def _learn(arguments: argparse.Namespace) -> int:
    from accrete_node.processes import learn

    return _with_settings(arguments, learn)


def _with_settings(arguments: argparse.Namespace, run: Callable[[Settings], int]) -> int:
    try:
        settings = load_settings(flags_of(arguments), arguments.config)
    except SettingsError as error:
        return refuse(error)
    if arguments.print_config:
        from accrete_node.describe import render

        print(render(settings, explained=True), end="")
        return 0
    return run(settings)


def refuse(error: SettingsError) -> int:
    """Tell what is wrong with the settings; answers the exit status."""
    for problem in error.problems:
        print(f"accrete: {problem}", file=sys.stderr)
    return CANNOT_START


def flags_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """The flags that were given, nested as in the file. Raises SettingsError for a --set that names no value."""
    flags: dict[str, Any] = {}
    for flag, (path, _, _) in _FLAGS.items():
        value = getattr(arguments, flag.removeprefix("--").replace("-", "_"))
        if value is not None:
            _put(flags, path, value)
    if arguments.insecure:
        _put(flags, "access.insecure", "true")
    for assignment in arguments.set:
        path, equals, value = assignment.partition("=")
        if not equals or not path:
            raise SettingsError([f"--set {assignment}: SECTION.FIELD=VALUE is expected"])
        _put(flags, path, value)
    return flags


def _put(flags: dict[str, Any], path: str, value: str) -> None:
    *sections, name = path.split(".")
    for section in sections:
        flags = flags.setdefault(section, {})
        if not isinstance(flags, dict):
            raise SettingsError([f"{path} = {value!r}: {section} has been given a value of its own"])
    flags[name] = value
