"""What can go wrong between a version's files and predictions from it.

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
    """A version cannot be loaded."""

    def __init__(self, stage: str, reason: str) -> None:
        """Say where and why.

        Args:
            stage: one of "read", "engine", "golden", "warm".
            reason: for people; it names no path outside the version's folder.
        """
        super().__init__(f"{stage}: {reason}")
        self.stage = stage
        self.reason = reason
