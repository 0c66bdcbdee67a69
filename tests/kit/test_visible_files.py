"""Which files of a folder are a person's own."""

from pathlib import Path

import pytest

from accrete_kit.visible_files import visible_files

pytestmark = pytest.mark.unit


def test_hidden_files_and_those_in_hidden_folders_are_left_out_but_not_what_a_hidden_folder_holds(tmp_path: Path):
    root = tmp_path / ".cache" / "photos"
    for name in ("a.png", "kiwi/b.png", ".thumb.png", "kiwi/.c.png", ".Trash/d.png", "kiwi/.Trash/old/e.png"):
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")
    assert sorted(path.relative_to(root).as_posix() for path in visible_files(root)) == ["a.png", "kiwi/b.png"]
