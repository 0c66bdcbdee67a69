"""What ends a step early. Errors of the store pass through as they are.

StepEnded
├── StepFailed       the step itself went wrong; tried again, then its examples go into quarantine
│   └── TrainerFailed    the trainer said so, crashed or was killed
├── Blocked          what it starts from cannot be used; no label is to blame, so it waits until that can be
│   └── VersionDamaged   its files are not what was published
├── NothingToLearn   between the decision and the reading, what was to be learned went away
└── Interrupted      this process is to stop, or no longer holds the lease
"""

from __future__ import annotations


class StepEnded(Exception):
    """Base of this package's errors."""


class StepFailed(StepEnded):
    """The step did not produce a candidate that can be loaded. The message says why."""


class TrainerFailed(StepFailed):
    """The trainer did not finish the step."""


class Blocked(StepEnded):
    """The step cannot start from the version that it should. The message says what to do."""


class VersionDamaged(Blocked):
    """A version that the step needs is damaged. The message names the file."""


class NothingToLearn(StepEnded):
    """No example to train on is left."""


class Interrupted(StepEnded):
    """The step was given up from outside, and nothing of it counts."""
