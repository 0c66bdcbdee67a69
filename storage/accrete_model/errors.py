"""What can go wrong between an artifact on disk and a version that answers.

ModelError
├── CorruptArtifact  a version's files are not what was published
└── LoadError        a candidate cannot be served; names the stage that found it and why
"""

from __future__ import annotations


class ModelError(Exception):
    """Base of this package's errors."""


class CorruptArtifact(ModelError):
    """A version's files are not what was published."""


class LoadError(ModelError):
    """A version cannot be loaded.

    `stage` is one of "read", "engine", "golden", "warm"; `reason` is for people and holds no path outside the artifact.
    """

    def __init__(self, stage: str, reason: str) -> None:
        super().__init__(f"{stage}: {reason}")
        self.stage = stage
        self.reason = reason
