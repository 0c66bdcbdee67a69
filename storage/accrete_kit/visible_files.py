"""The files that a person put into a folder."""

from collections.abc import Iterator
from pathlib import Path


def visible_files(folder: Path) -> Iterator[Path]:
    """Yield all files below a folder but hidden ones and those in hidden folders, in no order.

    Mail, archives and file managers leave such files: thumbnails, and copies in `.Trash`. That the folder itself lies
    in a hidden one is no matter.
    """
    for path in folder.rglob("*"):
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts):
            yield path
