"""Write the documents that are made from the code: `python docs/generate.py`, or `--check` to compare them alone."""

from __future__ import annotations

import contextlib
import inspect
import io
import json
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import UnionType
from typing import Any

import accrete

DOCS = Path(__file__).resolve().parent
MADE = "<!-- Made by docs/generate.py. Change the code, not this file. -->"

CONFIGURATION = f"""\
# Configuration

{MADE}

Settings come from a TOML file (`--config`, `ACCRETE_CONFIG`, or `accrete.toml` in the data directory), from the
environment (`ACCRETE_SERVER__PORT=50052`, with two underscores), and from flags (`--set server.port=50052`). The later
wins.

These are all fields with their defaults, as `accrete up --print-config` prints them. A field that is commented out is
left to the method.
"""

SDK = f"""\
# Python SDK

{MADE}

    from accrete import Client

The package needs grpcio, protobuf and numpy. `AsyncClient` has the methods of `Client`, awaited.
"""

CLI = f"""\
# Command line

{MADE}

Each command tells this with `--help`. `accrete --install-completion` teaches it to the shell.
"""

CHART_SCHEMA = "../server/deploy/helm/accrete/values.schema.json"
CHART_SEES_TO = {
    "store": ("url",),
    "server": ("host", "port", "advertise", "share_port", "metrics_host", "metrics_port"),
    "learner": ("metrics_host", "metrics_port"),
    "access": ("certificate", "private_key", "client_ca", "tokens", "insecure"),
}
"""Fields, by section, that `settings` of the chart does not take: what its pods are made with says them."""
CHART_LEAVES_OUT = ("page", "artifacts", "cluster")
"""Sections that no pod of the chart reads, or that another value says."""


def configuration() -> str:
    """Return docs/configuration.md: every setting with its default and meaning."""
    from accrete_node.describe import render
    from accrete_node.settings import load_settings

    for name in [name for name in os.environ if name.startswith("ACCRETE_")]:
        del os.environ[name]
    with tempfile.TemporaryDirectory() as folder:  # no settings file stands in it
        printed = render(load_settings({"data_dir": folder}), explained=True).replace(folder, "accrete-data")
    # A section begins with its comment, an empty line before it.
    sections = re.split(r"\n\n(?=(?:# .*\n)*\[)", printed.strip())
    parts = [CONFIGURATION]
    for printed_section in sections:
        found = re.search(r"^\[(\w+)\]$", printed_section, re.MULTILINE)
        heading = f"## [{found[1]}]\n\n" if found else ""
        parts.append(f"{heading}```toml\n{printed_section}\n```\n")
    return "\n".join(parts)


def sdk() -> str:
    """Return docs/sdk.md: the public names of the client package with their docstrings."""
    things = {name: getattr(accrete, name) for name in accrete.__all__}
    errors = [name for name, thing in things.items() if isinstance(thing, type) and issubclass(thing, Exception)]
    types = [name for name, thing in things.items() if isinstance(thing, UnionType)]
    rest = [name for name in things if name not in ("Client", "AsyncClient", *errors, *types)]
    parts = [SDK, "## Client\n", _text(accrete.Client)]
    parts += [f"### {name}\n\n{_signature(f'Client.{name}', method)}\n\n{_text(method)}" for name, method in _methods()]
    parts += ["## What is given and returned\n", *(f"### {name}\n\n{_text(things[name])}" for name in rest)]
    parts += ["## Errors\n", *(f"### {name}\n\n{_text(things[name])}" for name in errors)]
    return "\n".join(parts)


def _methods() -> Iterator[tuple[str, Callable[..., Any]]]:
    """The public methods in the order of the source, the constructor first."""
    for name, member in vars(accrete.Client).items():
        if inspect.isfunction(member) and (name == "__init__" or not name.startswith("_")):
            yield ("Client()" if name == "__init__" else name), member


def _signature(name: str, method: Callable[..., Any]) -> str:
    text = re.sub(r"'([^']*)'", r"\1", str(inspect.signature(method))).replace("(self, ", "(").replace("(self)", "()")
    return f"```python\n{_wrapped(name.replace('Client.Client()', 'Client') + text)}\n```"


def _wrapped(call: str) -> str:
    """One parameter per line where the call is long."""
    if len(call) <= 100:
        return call
    head, _, rest = call.partition("(")
    inside, _, result = rest.rpartition(")")
    parameters = re.split(r", (?![^\[(]*[\])])", inside)
    return f"{head}(\n" + "".join(f"    {parameter},\n" for parameter in parameters) + f"){result}"


def _text(thing: Any) -> str:
    """A docstring, and below it the fields of a dataclass, and what else of it has a docstring."""
    text = inspect.getdoc(thing) or ""
    # Google's blocks as lists.
    text = re.sub(r"^(Args|Returns|Raises):$", r"**\1**\n", text, flags=re.MULTILINE)
    text = re.sub(r"^    (\w+): ", r"* `\1`: ", text, flags=re.MULTILINE)
    fields = getattr(thing, "__dataclass_fields__", {})
    listed = "".join(f"* `{name}`: {_type(field.type)}\n" for name, field in fields.items())
    if not fields:
        return text + "\n"
    own = {name: one for name, one in vars(thing).items() if not name.startswith("_") and inspect.getdoc(one)}
    properties = {name: inspect.getdoc(one) or "" for name, one in own.items() if isinstance(one, property)}
    listed += "".join(f"* `{name}`: {' '.join(told.split())}\n" for name, told in properties.items())
    methods = "".join(
        f"\n#### {thing.__name__}.{name}\n\n{_signature(f'{thing.__name__}.{name}', one)}\n\n{_text(one)}"
        for name, one in own.items()
        if inspect.isfunction(one)
    )
    return f"{text}\n\n{listed}{methods}"


def _type(annotation: Any) -> str:
    return f"`{annotation if isinstance(annotation, str) else getattr(annotation, '__name__', annotation)}`"


def cli() -> str:
    """Return docs/cli.md: the help of each command."""
    from accrete.cli.app import SECTIONS, build

    group = build()

    def help_of(*arguments: str) -> str:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
            group.main([*arguments, "--help"], prog_name="accrete", terminal_width=100, max_content_width=100)
        return f"```text\n{printed.getvalue().strip()}\n```\n"

    parts = [CLI, help_of()]
    for title, entries in SECTIONS.items():
        parts.append(f"## {title}\n")
        for name in [name for name, entry in entries.items() if not entry.hidden]:
            parts.append(f"### accrete {name}\n\n{help_of(name)}")
            for inner in {"bench": ("protocol",), "cluster": ("up", "status", "down")}.get(name, ()):
                parts.append(help_of(name, inner))
    return "\n".join(parts)


def chart_schema() -> str:
    """Return the schema of the chart's values: what stands there, with the settings that the code has."""
    from accrete_node.settings import SECTIONS_OF_LEARNER, Settings

    made = Settings.model_json_schema()
    sections = {}
    for name, reference in made["properties"].items():
        if "$ref" in reference:
            fields = made["$defs"][reference["$ref"].rpartition("/")[2]]["properties"]
            hidden = {*CHART_SEES_TO.get(name, ()), *(SECTIONS_OF_LEARNER if name == "learner" else ())}
            taken = {field: _bare(schema) for field, schema in fields.items() if field not in hidden}
            sections[name] = {"type": "object", "additionalProperties": False, "properties": taken}
    schema = json.loads((DOCS / CHART_SCHEMA).read_text(encoding="utf-8"))
    schema["properties"]["preset"] = _bare(made["properties"]["preset"])
    settings = {name: sections[name] for name in sections if name not in CHART_LEAVES_OUT}
    schema["properties"]["settings"] = {"type": "object", "additionalProperties": False, "properties": settings}
    return json.dumps(schema, indent=1) + "\n"


def _bare(schema: dict[str, Any]) -> dict[str, Any]:
    """A field's schema without its default, which a preset may replace."""
    return {name: value for name, value in schema.items() if name not in ("default", "title", "description")}


DOCUMENTS: dict[str, Callable[[], str]] = {
    CHART_SCHEMA: chart_schema,
    "cli.md": cli,
    "configuration.md": configuration,
    "sdk.md": sdk,
}


def main() -> int:
    """Write the documents, or with `--check` return 1 when one of them is not what the code says."""
    stale = [name for name, make in DOCUMENTS.items() if not _is(DOCS / name, make())]
    if "--check" in sys.argv[1:]:
        for name in stale:
            print(f"{_shown(name)} is not what the code says: python docs/generate.py", file=sys.stderr)
        return int(bool(stale))
    for name in stale:
        (DOCS / name).write_text(DOCUMENTS[name](), encoding="utf-8")
        print(_shown(name))
    return 0


def _shown(name: str) -> Path:
    return (DOCS / name).resolve().relative_to(DOCS.parent)


def _is(path: Path, text: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == text


if __name__ == "__main__":
    raise SystemExit(main())
