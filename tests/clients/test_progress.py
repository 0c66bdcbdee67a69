"""Progress on stderr: for people at a terminal only."""

from __future__ import annotations

import contextlib
import io
import sys

import pytest

from accrete._calls import progress as _progress


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal():
    return _Terminal()


def test_nothing_is_shown_where_nobody_looks(capsys):
    with _progress.shown(True, "examples") as report:
        report(1, 2)
    assert capsys.readouterr() == ("", "")


def test_nothing_is_shown_when_not_wanted(terminal):
    with contextlib.redirect_stderr(terminal), _progress.shown(False, "examples") as report:
        report(1, 2)
    assert terminal.getvalue() == ""


def test_a_bar_is_shown_with_rich(terminal):
    pytest.importorskip("rich")
    with contextlib.redirect_stderr(terminal), _progress.shown(True, "examples") as report:
        report(2, 2)
    assert "2/2" in terminal.getvalue()


def test_a_line_counts_without_rich(terminal, monkeypatch):
    monkeypatch.setitem(sys.modules, "rich.console", None)
    with contextlib.redirect_stderr(terminal), _progress.shown(True, "examples") as report:
        report(0, 2)
        report(2, 2)
    assert terminal.getvalue() == "\rexamples 0 of 2\rexamples 2 of 2\n"
