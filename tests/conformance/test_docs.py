"""What the documents point to is there: files, headings, tests, settings, commands of the benchmarks."""

from __future__ import annotations

import ast
import dataclasses
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from accrete_node.settings import load_settings

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
SECTIONS = (
    "store|model|engine|server|access|teaching|method|training|memory|holdout|trigger|gate|learner|page|cluster|log"
)

each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)


@each_document
def test_links_lead_somewhere(document: Path):
    for link in re.findall(r"\]\((?!http)([^)]+)\)", document.read_text()):
        name, _, heading = link.partition("#")
        target = document.parent / name if name else document
        assert target.exists(), link
        assert not heading or heading in set(_headings(target)), link


@each_document
def test_files_and_tests_that_are_named_exist(document: Path):
    """`::test_x` alone is of the file that was named before it."""
    file = None
    for path, test, alone in re.findall(
        r"`((?:tests|docs|server|protos)/[\w/.-]+)(?:::(\w+))?`|`::(\w+)`", document.read_text()
    ):
        if path:
            file = ROOT / path
            assert file.exists(), path
        if test or alone:
            assert file is not None
            assert f"def {test or alone}(" in file.read_text(), f"{file.name}::{test or alone}"


@each_document
def test_settings_that_are_named_exist(document: Path):
    settings = load_settings({}, resolved=True)
    for section, field in re.findall(rf"`({SECTIONS})\.(?!json|safetensors)(\w+)(?: = [^`]*)?`", document.read_text()):
        assert field in {one.name for one in dataclasses.fields(getattr(settings, section))}, f"{section}.{field}"


@each_document
def test_benchmarks_that_are_named_exist(document: Path):
    for name in re.findall(r"python -m benchmarks\.(\w+)", document.read_text()):
        assert (ROOT / "benchmarks" / f"{name}.py").exists() or (ROOT / "benchmarks" / name).is_dir(), name


def test_documents_that_are_made_from_the_code_are_up_to_date():
    ended = subprocess.run([sys.executable, ROOT / "docs/generate.py", "--check"], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


def test_the_readme_is_an_entrance():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 180


def test_every_document_is_in_the_index():
    index = (ROOT / "docs/index.md").read_text()
    assert [path.name for path in (ROOT / "docs").glob("*.md") if f"({path.name})" not in index] == ["index.md"]


@each_document
def test_lines_fit_a_screen(document: Path):
    """Tables and blocks of code have the lines that they need."""
    text = re.sub(r"^```.*?^```", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    long = [line for line in text.splitlines() if len(line) > 160 and not line.lstrip().startswith("|")]
    assert not long, long[0]


def test_retired_words_do_not_come_back_as_names():
    """The table in CONTRIBUTING.md is the list; names in code are compared word by word, text is not."""
    table = (ROOT / "CONTRIBUTING.md").read_text().partition("### Retired words")[2]
    retired = {name for row in re.findall(r"^\|([^|]*)\|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}
    assert "held_out" in retired
    wrong: list[str] = []
    for folder in ("clients/python", "learner", "server", "storage", "benchmarks"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if "_pb2" not in path.name:
                wrong += [f"{path.relative_to(ROOT)}: {name}" for name in sorted(_names(path) & retired)]
    assert not wrong, "\n".join(wrong)


def test_a_caught_exception_is_called_error():
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {node.name}"
        for folder in ("clients/python", "learner", "server", "storage", "benchmarks")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ExceptHandler) and node.name not in (None, "error", "end")
    ]
    assert not wrong, "\n".join(wrong)


def _names(path: Path) -> set[str]:
    """The names that a file defines: modules, classes, functions, parameters, variables, attributes."""
    found = {path.stem}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef | ast.ExceptHandler):
            found.add(node.name or "")
        elif isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.id if isinstance(node, ast.Name) else node.attr)
    return {name.strip("_") for name in found}


def _headings(document: Path) -> Iterator[str]:
    """As GitHub makes anchors of them."""
    for heading in re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE):
        yield re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
