"""What can go wrong between an artifact on disk and a version that answers.

EngineError
└── LoadError        a candidate cannot be served; names the stage that found it and why
"""

from __future__ import annotations


class EngineError(Exception):
    """Base of this package's errors."""


class LoadError(EngineError):
    """A version cannot be loaded.

    `stage` is one of "read", "engine", "golden", "warm"; `reason` is for people and holds no path outside the artifact.
    """

    def __init__(self, stage: str, reason: str) -> None:
        super().__init__(f"{stage}: {reason}")
        self.stage = stage
        self.reason = reason
