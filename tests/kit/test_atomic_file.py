"""A file is written whole or not at all."""

import json
import os
import socket
import stat
from pathlib import Path

import pytest

from accrete_kit.atomic_file import write_bytes, write_json, write_text


def test_a_file_is_replaced_and_nothing_else_stays(tmp_path: Path) -> None:
    path = tmp_path / "state"
    write_bytes(path, b"before")
    write_bytes(path, b"after")
    assert path.read_bytes() == b"after"
    assert list(tmp_path.iterdir()) == [path]


def test_text_is_utf_8_and_json_reads_back(tmp_path: Path) -> None:
    write_text(tmp_path / "text", "grün\n")
    write_json(tmp_path / "object", {"label": "grün", "n": 1})
    assert (tmp_path / "text").read_bytes() == "grün\n".encode()
    assert json.loads((tmp_path / "object").read_bytes()) == {"label": "grün", "n": 1}


def test_permissions_are_those_asked_for_less_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        write_text(tmp_path / "public", "")
        write_text(tmp_path / "private", "", mode=0o600)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "public").stat().st_mode) == 0o644
    assert stat.S_IMODE((tmp_path / "private").stat().st_mode) == 0o600


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "file").touch()
    with pytest.raises(IsADirectoryError):
        write_text(folder, "a folder with a file in it cannot be replaced by a file")
    assert list(tmp_path.iterdir()) == [folder]


def test_what_a_killed_process_left_is_written_over(tmp_path: Path) -> None:
    left = tmp_path / f".state.{socket.gethostname()}.{os.getpid()}.tmp"
    left.write_text("half of a long text")
    write_text(tmp_path / "state", "whole")
    assert (tmp_path / "state").read_text() == "whole"
    assert not left.exists()


def test_the_same_process_number_on_another_machine_is_not_in_the_way(tmp_path: Path, monkeypatch) -> None:
    """Each container of several that share a folder has a process 1."""
    replace, here = Path.replace, socket.gethostname()

    def meanwhile(path: Path, target: Path) -> Path:
        monkeypatch.setattr(Path, "replace", replace)
        monkeypatch.setattr(socket, "gethostname", lambda: f"not-{here}")
        write_text(tmp_path / "state", "the other's")
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", meanwhile)
    write_text(tmp_path / "state", "ours")
    assert (tmp_path / "state").read_text() == "ours"
    assert [entry.name for entry in tmp_path.iterdir()] == ["state"]
