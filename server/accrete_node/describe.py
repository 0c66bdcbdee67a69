"""Settings as a TOML file, with or without what each field means."""

from __future__ import annotations

import dataclasses
import json
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic_settings import SettingsConfigDict

from accrete_node.settings import SECTIONS_OF_LEARNER, Settings

_WIDTH = 110


def render(settings: Settings, *, explained: bool) -> str:
    """Return the settings as TOML that `load_settings` reads back, with its meaning above each field if `explained`."""
    schema = _schema() if explained else {}
    lines = []
    for name in ("data_dir", "preset"):
        lines += [*_meaning(schema, name), f"{name} = {_value(getattr(settings, name))}"]
    for name in Settings.model_fields:
        section = getattr(settings, name)
        if dataclasses.is_dataclass(section):
            lines += ["", *_section(name, section, schema.get("$defs", {}).get(type(section).__name__, {}))]
    return "\n".join(lines) + "\n"


def _schema() -> dict[str, Any]:
    """Return the settings' JSON schema with each field's docstring, which takes longer to read than all else."""

    class Documented(Settings):
        model_config = SettingsConfigDict(use_attribute_docstrings=True)

    return Documented.model_json_schema()


def _section(name: str, section: Any, schema: Mapping[str, Any]) -> list[str]:
    """Return the lines of one section, explained by its JSON schema unless that is empty."""
    lines = [*_comment(schema.get("description", "").partition("\n")[0]), f"[{name}]"]
    for item in dataclasses.fields(section):
        if name == "learner" and item.name in SECTIONS_OF_LEARNER:
            continue
        value = getattr(section, item.name)
        lines += _meaning(schema, item.name)
        # TOML has no null: a field that is left to the method stands as a comment.
        lines.append(f"# {item.name} =" if value is None else f"{item.name} = {_value(value)}")
    return lines


def _meaning(schema: Mapping[str, Any], field: str) -> list[str]:
    """Return the description of a field."""
    return _comment(schema["properties"][field]["description"]) if schema else []


def _value(value: Any) -> str:
    """Return a value as TOML, which writes strings, numbers and booleans as JSON does."""
    text = json.dumps(str(value) if isinstance(value, Path) else value, ensure_ascii=False)
    return text.replace("\x7f", "\\u007f")  # the one character that JSON has as it is and TOML does not


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(" ".join(text.split()), _WIDTH)]
