"""How a step reports its progress."""

from collections.abc import Callable

Report = Callable[[int, int, float], None]
"""Called by a stage with how much of it is done, of how much, and the current loss."""

Progress = Callable[[str, int, int, float], None]
"""Called with the name of the stage, then as `Report`."""


Note = Callable[[str], None]
"""Called with what people should know of a step, a sentence."""


def of_stage(progress: Progress, stage: str) -> Report:
    """Return the report of one stage, which `progress` receives under the stage's name."""
    return lambda done, total, loss: progress(stage, done, total, loss)
