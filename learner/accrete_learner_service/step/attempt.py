"""One attempt at a step, and its folder."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from accrete_kit.stopwatch import Stopwatch
from accrete_learner.trainer.job import CANDIDATE_FOLDER
from accrete_learner_service.trigger import Decision

_BY_HAND_FILE = "by_hand"
"""Marks a step that was asked for by hand, so that the request outlives a learner that is killed in it."""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One attempt at a step."""

    step_id: str
    """No other attempt has it."""
    folder: Path
    watch: Stopwatch = field(default_factory=Stopwatch)

    @property
    def candidate(self) -> Path:
        """The folder of the candidate's files."""
        return self.folder / CANDIDATE_FOLDER


@contextmanager
def attempt(work: Path, decision: Decision) -> Iterator[Attempt]:
    """Begin an attempt in a new folder under `work`, which is removed at the block's end.

    Raises:
        OSError: the disk is full or not there.
    """
    step_id = uuid.uuid4().hex
    folder = work / step_id
    try:
        folder.mkdir(parents=True)
        if decision.cause == "hand":
            (folder / _BY_HAND_FILE).touch()
        yield Attempt(step_id=step_id, folder=folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def left_by_hand(work: Path) -> bool:
    """Return whether a killed learner left a step there that was asked for by hand."""
    return any(work.glob(f"*/{_BY_HAND_FILE}"))
