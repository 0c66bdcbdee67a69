"""Errors are told by file and reason, without the numbers of the operating system."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from accrete_kit.plain import plain


def test_an_error_of_the_operating_system_is_told_without_its_number(tmp_path: Path):
    with pytest.raises(FileNotFoundError) as missing:
        (tmp_path / "gone").read_bytes()
    assert plain(missing.value) == f"{tmp_path / 'gone'}: No such file or directory"
    with pytest.raises(FileNotFoundError) as refused:
        os.open(bytes(tmp_path / "gone"), os.O_RDONLY)
    assert plain(refused.value) == f"{tmp_path / 'gone'}: No such file or directory"
    assert plain(OSError(errno.ENOLCK, "No locks available")) == "No locks available"


def test_what_we_say_ourselves_is_told_as_it_is():
    assert plain(OSError("the page cannot listen")) == "the page cannot listen"
    assert plain(ValueError("no")) == "no"
