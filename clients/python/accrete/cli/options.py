"""Options that several commands share, as dataclasses whose fields are the options."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import sys
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from . import output
from .exits import UsageError

EXAMPLE = "\n\nExample:\n"


def expanded(function: Callable[..., Any]) -> Callable[..., Any]:
    """Replace each parameter whose type is a dataclass by the dataclass's fields, as Typer reads them.

    Args:
        function: a command with any number of such parameters; no two fields may have the same name.

    Returns:
        A function with the fields as keyword parameters, which makes the dataclasses and calls `function`.
    """
    hints = typing.get_type_hints(function, include_extras=True)
    own: list[inspect.Parameter] = []
    groups: dict[str, tuple[type[Any], list[inspect.Parameter]]] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        kind = hints.get(name)
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            groups[name] = (kind, _fields(kind))
        else:
            own.append(parameter.replace(annotation=hints.get(name, str), kind=inspect.Parameter.KEYWORD_ONLY))

    @functools.wraps(function)
    def run(**given: Any) -> Any:
        made = {
            name: kind(**{field.name: given.pop(field.name) for field in fields})
            for name, (kind, fields) in groups.items()
        }
        return function(**given, **made)

    parameters = [*own, *(field for _, fields in groups.values() for field in fields)]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _fields(kind: type[Any]) -> list[inspect.Parameter]:
    hints = typing.get_type_hints(kind, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in dataclasses.fields(kind)
        if field.init
    ]


def help_and_example(function: Callable[..., Any]) -> tuple[str, str]:
    """Split a docstring into the help of a command and its example."""
    text, _, example = (inspect.getdoc(function) or "").partition(EXAMPLE)
    return text, f"Example:\n{inspect.cleandoc(example)}".replace("\n", "\n  ") if example else ""


@dataclass(frozen=True, kw_only=True)
class Output:
    """How a command prints what it found."""

    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False

    def show(self, value: object, text: str) -> None:
        """Print `value` as JSON, or `text` for people."""
        print(output.to_json(value) if self.json else text)


Ids = Annotated[list[str], typer.Argument(metavar="ID", help="- reads them from stdin, one a line.")]


def read_ids(given: Sequence[str]) -> list[str]:
    """Return the ids, with each "-" replaced by what stdin holds."""
    try:
        return [found for one in given for found in (sys.stdin.read().split("\n") if one == "-" else [one]) if found]
    except UnicodeDecodeError as error:
        raise UsageError(f"stdin is not {error.encoding}: {error.reason}") from error
