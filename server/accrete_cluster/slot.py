"""A data directory for each server and learner of a node, which the next one takes over."""

from __future__ import annotations

import itertools
import os
import socket
from pathlib import Path

from accrete_kit.file_lock import AlreadyLocked, FileLock
from accrete_model.artifacts import VERSIONS_FOLDER
from accrete_node.settings import Settings

_SHARED = (VERSIONS_FOLDER, "backbones")
"""Folders of a shared data directory that all processes use."""


class Slot:
    """The first folder of its kind, by number, that nobody on this machine uses.

    A cache in it outlives whoever filled it, and there are as many as there ever were processes at a time.
    """

    def __init__(self, settings: Settings, kind: str) -> None:
        """Take it, and make it where it is not there.

        Args:
            settings: of the cluster, with the data directory that is to be above it.
            kind: `server` or `learner`.

        Raises:
            OSError: it cannot be written, or its file system keeps no locks.
        """
        above = settings.data_dir / "cluster" / socket.gethostname()
        for number in itertools.count():
            self.folder = above / f"{kind}-{number}"
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                self._lock = FileLock(self.folder / "slot.lock")
            except AlreadyLocked:
                continue
            try:  # the process of an actor that was killed may still be at its end
                FileLock(self.folder / f"{kind}.lock").release()
                break
            except AlreadyLocked:
                self._lock.release()
        if not settings.artifacts.url:
            self._share(settings.data_dir)

    def _share(self, data_dir: Path) -> None:
        for name in _SHARED:
            (data_dir / name).mkdir(exist_ok=True)
            link = self.folder / name
            if not link.is_symlink():
                link.symlink_to(os.path.relpath(data_dir / name, self.folder))

    def release(self) -> None:
        """Let others take it."""
        self._lock.release()
