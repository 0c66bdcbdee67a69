"""The commands of the command line that need the server: `accrete up`, `serve`, `learn` and their like.

`accrete.cli` finds them by the entry points of the group `accrete.commands`, and makes an option of each field of a
parameter that is a dataclass. What a command needs is imported when it runs, so that its help is quick.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from accrete_kit.plain import plain
from accrete_node.exit_status import CANNOT_START

if TYPE_CHECKING:
    from accrete_node.settings import Settings

_PATHS = {
    "data_dir": "data_dir",
    "preset": "preset",
    "port": "server.port",
    "host": "server.host",
    "redis": "store.url",
    "method": "method.name",
    "backbone": "model.backbone",
    "weights": "model.weights",
    "engine": "engine.engine",
}
"""The setting of each flag that has a name of its own."""

Hidden = Annotated[str | None, typer.Option(hidden=True)]


@dataclass(frozen=True, kw_only=True)
class NodeFlags:
    """Settings from the command line."""

    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Settings file (TOML). Flags win over the environment (ACCRETE_SERVER__PORT=50052), that over this "
            "file, and that over the defaults. [default: $ACCRETE_CONFIG, else accrete.toml in the data directory]",
        ),
    ] = None
    data_dir: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Folder of everything that must last. [default: accrete-data]"),
    ] = None
    port: Annotated[str | None, typer.Option(metavar="PORT", help="gRPC port; 0: any free one. [default: 50051]")] = (
        None
    )
    host: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Address to listen on. [default: 127.0.0.1, this machine alone]"),
    ] = None
    redis: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="A Redis >= 7.0 or Valkey to use in place of the embedded store. Arguments are seen by "
            "all users of the machine: one with a password belongs into the file, or into ACCRETE_STORE__URL.",
        ),
    ] = None
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Settings that go together: photographs, embeddings, digits, cifar. A data directory keeps its own. "
            "[default: photographs]",
        ),
    ] = None
    method: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="How a step learns; docs/methods.md has them all. [default: the preset's]"),
    ] = None
    backbone: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What turns an image into features; `accrete backbones` lists them. [default: the preset's]",
        ),
    ] = None
    weights: Annotated[
        str | None,
        typer.Option(metavar="FILE|NAME", help="Weights to start from: a file, or torchvision's name of them."),
    ] = None
    engine: Annotated[str | None, typer.Option(metavar="NAME", help="onnxruntime or torch. [default: onnxruntime]")] = (
        None
    )
    set: Annotated[
        list[str] | None, typer.Option(metavar="SECTION.FIELD=VALUE", help="Any setting; may be repeated.")
    ] = None
    insecure: Annotated[
        bool,
        typer.Option("--insecure", help="Listen on other addresses than this machine's own without encryption."),
    ] = False
    print_config: Annotated[
        bool,
        typer.Option("--print-config", help="Print all settings as a file, with what they mean, and end."),
    ] = False

    def run(self, work: Callable[[Settings], int]) -> int:
        """Call `work` with the settings, and return the exit status. Settings that cannot be used are told instead."""
        from accrete_node.settings import SettingsError, load_settings

        try:
            settings = load_settings(self.nested(), self.config)
        except SettingsError as error:
            for problem in error.problems:
                print(f"accrete: {problem}", file=sys.stderr)
            return CANNOT_START
        if self.print_config:
            from accrete_node.describe import render

            print(render(settings, explained=True), end="")
            return 0
        return work(settings)

    def nested(self) -> dict[str, Any]:
        """Return the flags that were given, nested as in the file. Raises SettingsError for a --set without a value."""
        from accrete_node.settings import SettingsError
        from accrete_storage.store_url import shown

        flags: dict[str, Any] = {}
        for name, path in _PATHS.items():
            if (value := getattr(self, name)) is not None:
                _put(flags, path, value)
        if self.insecure:
            _put(flags, "access.insecure", "true")
        for assignment in self.set or ():
            path, equals, value = assignment.partition("=")
            if not equals or not path:
                raise SettingsError([f"--set {shown(assignment)}: SECTION.FIELD=VALUE is expected"])
            _put(flags, path, value)
        return flags


def _put(flags: dict[str, Any], path: str, value: str) -> None:
    from accrete_node.settings import SettingsError
    from accrete_storage.store_url import shown

    *sections, name = path.split(".")
    for section in sections:
        flags = flags.setdefault(section, {})
        if not isinstance(flags, dict):
            raise SettingsError([f"{path} = {shown(repr(value))}: {section} has been given a value of its own"])
    flags[name] = value


@dataclass(frozen=True, kw_only=True)
class LearnerFlags(NodeFlags):
    """Those that matter to the learner; the others are taken as well, so that one set of flags does for all."""

    port: Hidden = None
    host: Hidden = None
    insecure: Annotated[bool, typer.Option("--insecure", hidden=True)] = False


@dataclass(frozen=True, kw_only=True)
class BackboneFlags(LearnerFlags):
    """Those that matter to a backbone; the others are taken as well."""

    redis: Hidden = None
    method: Hidden = None
    engine: Hidden = None


@dataclass(frozen=True, kw_only=True)
class DataFlags(LearnerFlags):
    """Those that say where the data is; the others are taken as well."""

    preset: Hidden = None
    method: Hidden = None
    backbone: Hidden = None
    weights: Hidden = None
    engine: Hidden = None


def up(flags: NodeFlags) -> int:
    """Start the store, the server, the learner and the page, and keep them running until Ctrl-C or SIGTERM.

    That ends all of it in order within ten seconds. Started again on the same data directory, it serves the same model.
    Exit status: 0 ended as told, 2 settings or data that cannot be used.

    Example:
        accrete up --data-dir /srv/accrete --port 50051
    """
    from accrete_node import up as node

    return flags.run(node.up)


def serve(flags: NodeFlags) -> int:
    """Start one server on a store that runs already, for more machines than one.

    Servers share the store and the folder of versions, or the bucket (artifacts.url).

    Example:
        accrete serve --redis redis://store:6379 --data-dir /mnt/accrete --host 10.0.0.5 \\
            --set access.certificate=server.pem --set access.private_key=server.key
    """
    from accrete_node import processes

    return flags.run(processes.serve)


def learn(flags: LearnerFlags) -> int:
    """Start the learner on a store that runs already, for more machines than one.

    One learns at a time; a second one waits for it.

    Example:
        accrete learn --redis redis://store:6379 --data-dir /mnt/accrete
    """
    from accrete_node import processes

    return flags.run(processes.learn)


def backup(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to; a folder that is new or empty.")],
    flags: DataFlags,
) -> int:
    """Write everything that must last into a folder, while it runs.

    That is examples, exemplars, hold-out and all ready versions, as of one moment.

    Example:
        accrete backup /backups/monday --data-dir /srv/accrete
    """
    from accrete_node.backup import back_up

    return flags.run(lambda settings: back_up(settings, folder))


def restore(folder: Annotated[Path, typer.Argument(metavar="DIR", help="The backup.")], flags: DataFlags) -> int:
    """Put a backup into a new data directory, after checking every byte of it.

    The data directory has no store yet; with --redis, the store that it names is empty. Start `accrete up` afterwards.

    Example:
        accrete restore /backups/monday --data-dir /srv/accrete
    """
    from accrete_node.backup import restore

    return flags.run(lambda settings: restore(settings, folder))


def backbones(
    flags: BackboneFlags,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="A torchvision model, or onnx:FILE.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    int8: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the settings' frozen backbone with 8-bit integers to FILE instead."),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="With --int8: images of the kind that it will see, at any depth."),
    ] = None,
) -> int:
    """List backbones with what they cost on this machine: feature length, input, size, licence, milliseconds per image.

    Time is that of one image on one thread of the CPU. Without names, those of Accrete and the one of the settings are
    measured, so that a network that takes images in a form of its own is tried with the flags that `accrete up` takes.

    With --int8 a backbone is quantised, for CPUs: one with VNNI takes about half the time for it. Its features are
    others, which is told. `accrete up` takes it up as any other backbone: it learns what is kept anew, and `accrete
    versions` has the accuracy on the hold-out before and after. One that is worse than `gate.max_old_drop` allows is
    refused, with both accuracies; `gate.enabled = false` takes it up all the same. The former setting goes back in the
    same way.

    Example:
        accrete backbones --backbone onnx:clip.onnx --set model.mean=0.48,0.46,0.41
        accrete backbones --int8 lite0-int8.onnx --images photographs
        accrete up --backbone onnx:lite0-int8.onnx
    """
    if (int8 is None) != (images is None) or (int8 is not None and (names or as_json)):
        raise typer.BadParameter("--int8 FILE and --images FOLDER go together, without names and --json")
    if int8 is not None and images is not None:
        from accrete_node.int8 import write_int8

        file, folder = int8, images
        return flags.run(lambda settings: write_int8(settings, file, folder))
    from accrete_node.backbones import show

    return flags.run(lambda settings: show(settings, names or [], as_json=as_json))


def token(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The principal's name, as the audit log tells it; no spaces.")
    ],
    roles: Annotated[str, typer.Option(metavar="ROLE,ROLE", help="predict, teach, operate, metrics.")],
    file: Annotated[Path, typer.Option(metavar="FILE", help="The file of principals.")],
    certificate: Annotated[
        bool,
        typer.Option(
            "--certificate", help="Let in who shows a certificate of that common name; there is no token then."
        ),
    ] = False,
) -> int:
    """Make a token for a caller and print it, once.

    The line that lets the caller in (with the token's hash) is added to the file of principals that access.tokens
    names. Running servers see it within a second or two.

    Example:
        accrete token shop-app --roles predict,teach --file /etc/accrete/tokens
    """
    from accrete_server.access import tokens

    new = None if certificate else tokens.new_token()
    try:
        tokens.add(file, tokens.line(name, roles.split(","), new))
    except (OSError, ValueError) as error:
        print(f"accrete: {plain(error)}", file=sys.stderr)
        return CANNOT_START
    if new is not None:
        print(new)
    return 0
