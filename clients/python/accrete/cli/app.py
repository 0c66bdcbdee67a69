"""All commands in one table, each imported only when it is asked for: `accrete --help` loads neither gRPC nor numpy."""

from __future__ import annotations

import importlib
import importlib.metadata
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from . import exits
from .options import expanded, help_and_example

GROUP = "accrete.commands"
"""Entry points of this group are commands of the extras of nodes: functions as here, or a `typer.Typer` of several."""


@dataclass(frozen=True)
class Entry:
    """A command before it is imported."""

    summary: str
    module: str = ""
    """Of this package; empty: an entry point of `GROUP`, by the command's name."""
    hidden: bool = False


SECTIONS: dict[str, dict[str, Entry]] = {
    "Ask and teach": {
        "predict": Entry("rank labels for images", "predict"),
        "add": Entry("teach labelled images", "teach"),
        "wait": Entry("wait until examples are learned", "teach"),
    },
    "Look": {
        "watch": Entry("see what the learner does, as it happens", "watch"),
        "status": Entry("the state of server, learner and store", "state"),
        "servers": Entry("the servers that calls are spread over", "state"),
        "eval": Entry("measure the live version on images kept aside", "evaluate"),
        "classes": Entry("all labels and how far they have come", "state"),
        "examples": Entry("what is stored of a label, and its images", "curate"),
        "versions": Entry("all model versions with their accuracy, or two of them compared", "state"),
        "mistakes": Entry("what a version took for what, and the examples it got wrong", "state"),
        "quarantine": Entry("labels whose examples are set aside, and why", "state"),
        "held": Entry("the former name of `quarantine`", "state", hidden=True),
    },
    "Change": {
        "activate": Entry("bring a version back and pin it", "control"),
        "unpin": Entry("let the newest version go live again", "control"),
        "discard": Entry("give up a version whose files are damaged for good", "control"),
        "pause": Entry("start no more steps", "control"),
        "resume": Entry("end a pause", "control"),
        "trigger": Entry("start a step now", "control"),
        "retry": Entry("learn a label that is in quarantine after all", "control"),
        "approve": Entry("learn a new label that waits for approval", "control"),
        "drop": Entry("remove the pending examples of a label in quarantine", "control"),
        "inbox": Entry("images that it was unsure of: list, label, skip or reopen them", "inbox"),
        "review": Entry("examples set aside for review: list, release or drop them", "review"),
        "rename": Entry("give a class another label", "rename"),
        "merge": Entry("make a class part of another one", "rename"),
        "forget": Entry("remove a class", "control"),
        "delete": Entry("remove examples by id", "control"),
    },
    "Run (with the extra `server` or `light`)": {
        "up": Entry("run store, learner and server on this machine"),
        "serve": Entry("run a server alone"),
        "learn": Entry("run the learner alone"),
        "cluster": Entry("run servers and learners on many machines"),
        "page": Entry("serve the page of a server that runs already"),
        "demo": Entry("watch it learn digits, or your photographs, while it serves"),
        "bench": Entry("compare methods on streams of classes"),
        "backbones": Entry("what turns images into features, and how fast here"),
        "token": Entry("let a caller in"),
        "backup": Entry("write everything into a folder, while it runs"),
        "restore": Entry("put a backup into a new data directory"),
    },
}


def build() -> TyperGroup:
    """Return the whole command line."""
    app = typer.Typer(cls=_Commands, no_args_is_help=True, rich_markup_mode=None)
    app.callback(epilog=exits.EPILOG)(_accrete)
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    return group


def _accrete(
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=lambda asked: _version(asked), help="Print the release."),
    ] = False,
) -> None:
    """Accrete serves an image classifier that learns new classes while it serves.

    \b
    accrete up                     start it on this machine
    accrete add photos/ --wait     teach it: one folder for each label
    accrete predict photo.jpg      ask it
    """


def _version(asked: bool) -> None:
    if asked:
        print(f"accrete {importlib.metadata.version('accrete')}")
        raise typer.Exit


class _PlainHelp:
    """Help as plain text: quick to show, the same in a pipe, and an example's lines stay as they are."""

    def format_options(self: Any, ctx: Any, formatter: Any) -> None:
        """Write the parameters, in sections by their panel."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                kind = "Arguments" if param.param_type_name == "argument" else "Options"
                sections.setdefault(getattr(param, "rich_help_panel", None) or kind, []).append(record)
        for title in sorted(sections, key=["Arguments", "Options", *sections].index):
            with formatter.section(title):
                formatter.write_dl(sections[title])

    def format_epilog(self: Any, ctx: Any, formatter: Any) -> None:
        """Write the epilog without wrapping its lines."""
        if self.epilog:
            formatter.write(f"\n{self.epilog}\n")


class _Command(_PlainHelp, TyperCommand):
    """A command; an option whose metavar is in brackets may come without a value, and is empty then."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put an empty value behind an option that has none, and parse."""
        optional = {name for one in self.params if (one.metavar or "").startswith("[") for name in one.opts}
        given: list[str] = []
        for one, following in itertools.pairwise([*args, "-"]):
            given += [one, ""] if one in optional and following.startswith("-") else [one]
        return super().parse_args(ctx, given)


class _Group(_PlainHelp, TyperGroup):
    """A command that has commands."""

    def format_options(self: Any, ctx: Any, formatter: Any) -> None:
        """Write the options, then the commands."""
        super().format_options(ctx, formatter)
        self.format_commands(ctx, formatter)


class _Commands(_Group):
    """The commands by name and summary; the one that is called is imported."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for entries in SECTIONS.values():
            for name, entry in entries.items():
                self.commands[name] = TyperCommand(name, help=entry.summary, hidden=entry.hidden)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find a command by its name, and import it."""
        name, command, rest = super().resolve_command(ctx, args)
        if name is not None:
            try:
                command = command_of(name, _load(name))
            except (exits.UsageError, ImportError):
                if not ctx.resilient_parsing:  # while completing there is nobody to tell
                    raise
        return name, command, rest

    def invoke(self, ctx: Any) -> Any:
        """Run a command, and end with its exit status."""
        raise typer.Exit(exits.guarded(lambda: super(_Commands, self).invoke(ctx)))

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the names and summaries, by section."""
        for title, entries in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, entry.summary) for name, entry in entries.items() if not entry.hidden])


def _load(name: str) -> Callable[..., Any] | typer.Typer:
    """Import a command. Raises UsageError or ImportError when what it needs is not installed."""
    entry = next(entries[name] for entries in SECTIONS.values() if name in entries)
    if entry.module:
        function: Callable[..., Any] = getattr(importlib.import_module(f".{entry.module}", __package__), name)
        return function
    for point in importlib.metadata.entry_points(group=GROUP, name=name):
        loaded: Callable[..., Any] | typer.Typer = point.load()
        return loaded
    raise exits.UsageError(exits.NEEDS_SERVER)


def command_of(name: str, loaded: Callable[..., Any] | typer.Typer) -> TyperCommand | TyperGroup:
    """Return the command of a function, or the group of commands of a `typer.Typer`.

    A parameter whose type is a dataclass stands for its fields, each of which is an option. The docstring is the help;
    what follows its line `Example:` is shown as it is.
    """
    if isinstance(loaded, typer.Typer):
        app = typer.Typer(add_completion=False, rich_markup_mode=None, cls=_Group, help=loaded.info.help)
        app.callback()(lambda: None)  # a group also where it has one command alone
        for info in loaded.registered_commands:
            assert info.callback is not None
            _register(app, info.name or info.callback.__name__, info.callback)
    else:
        app = typer.Typer(add_completion=False, rich_markup_mode=None)
        _register(app, name, loaded)
    command = typer.main.get_command(app)
    assert isinstance(command, TyperCommand | TyperGroup)
    return command


def _register(app: typer.Typer, name: str, function: Callable[..., Any]) -> None:
    text, epilog = help_and_example(function)
    app.command(name, help=text, epilog=epilog, cls=_Command)(expanded(function))
