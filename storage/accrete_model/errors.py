"""What can go wrong between a version's files and predictions from it.

ModelError
├── CorruptArtifact    a version's files are not what was published
├── BucketUnavailable  the bucket of versions cannot be used now; names the setting and what is wrong
│   └── BucketRefused      nor will it be until somebody changes something
└── LoadError          a candidate cannot be served; names the stage that found it and why
"""

from __future__ import annotations


class ModelError(Exception):
    """Base of this package's errors."""


class CorruptArtifact(ModelError):
    """A version's files are not what was published."""


class BucketUnavailable(ModelError):
    """The bucket that has the versions cannot be used now. That says nothing of the versions in it."""


class BucketRefused(BucketUnavailable):
    """The bucket cannot be used until somebody changes settings, credentials or rights."""


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
