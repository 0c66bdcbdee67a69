"""Settings as a TOML file, with or without what each field means."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import textwrap
from pathlib import Path
from typing import Any

from accrete_node.settings import SECTIONS_OF_LEARNER, Settings

_WIDTH = 110


def render(settings: Settings, *, explained: bool) -> str:
    """The settings as TOML that `load_settings` reads back; `explained` puts what a field means above it."""
    meanings = _meanings(Settings) if explained else {}
    lines = [*_comment(meanings.get("data_dir", "")), f"data_dir = {_value(settings.data_dir)}"]
    for name in Settings.model_fields:
        section = getattr(settings, name)
        if dataclasses.is_dataclass(section):
            lines += ["", *_section(name, section, explained=explained)]
    return "\n".join(lines) + "\n"


def _section(name: str, section: Any, *, explained: bool) -> list[str]:
    meanings = _meanings(type(section)) if explained else {}
    lines = [*(_comment(_first_line(type(section))) if explained else []), f"[{name}]"]
    for item in dataclasses.fields(section):
        if name == "learner" and item.name in SECTIONS_OF_LEARNER:
            continue
        value = getattr(section, item.name)
        lines += _comment(meanings.get(item.name, ""))
        # TOML has no null: a field that is left to the method stands as a comment.
        lines.append(f"# {item.name} =" if value is None else f"{item.name} = {_value(value)}")
    return lines


def _value(value: Any) -> str:
    """Strings, numbers and booleans are written alike in TOML and JSON."""
    return json.dumps(str(value) if isinstance(value, Path) else value, ensure_ascii=False)


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(" ".join(text.split()), _WIDTH)]


def _first_line(section: type) -> str:
    return (section.__doc__ or "").strip().partition("\n")[0]


def _meanings(section: type) -> dict[str, str]:
    """By field, the string that stands below it in the class."""
    definition = ast.parse(textwrap.dedent(inspect.getsource(section))).body[0]
    if not isinstance(definition, ast.ClassDef):
        raise TypeError(f"{section} is no class")
    found = {}
    for field, below in zip(definition.body, definition.body[1:], strict=False):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                found[name] = text
    return found
