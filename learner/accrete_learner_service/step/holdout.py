"""Which of a class's set-aside examples measure, and which are trained on after all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from accrete_learner_service.step.shares import within
from accrete_storage.examples.example import Example
from accrete_storage.examples.ids import holdout_rank


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """Examples set aside at arrival, divided."""

    kept: list[Example]
    """The new hold-out, lowest rank first."""
    trained: list[Example]
    """Those for which there is no room."""


def split(old: Iterable[Example], arrivals: Iterable[Example], *, cap: int, each: int) -> Split:
    """Keeps the `cap` examples with the lowest `holdout_rank`, at most `each` of one principal: a uniform sample of all
    that ever were set aside.

    The rank depends on the id alone, so neither the order of arrival nor the steps in between change who is chosen. An
    old one that has to make room has never been trained on, and is now.
    """
    ranked = sorted([*old, *arrivals], key=lambda example: holdout_rank(example.id))
    kept = within(ranked, each)[:cap]
    chosen = {id(example) for example in kept}
    return Split(kept=kept, trained=[example for example in ranked if id(example) not in chosen])
