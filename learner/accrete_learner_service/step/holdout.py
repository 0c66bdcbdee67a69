"""Which of a class's set-aside examples measure, and which are trained on after all."""

from __future__ import annotations

from collections.abc import Iterable

from accrete_learner_service.principal_shares import first_of_each
from accrete_storage.examples.example import Example
from accrete_storage.examples.ids import holdout_rank


def choose_holdout(
    old: Iterable[Example], arrivals: Iterable[Example], *, cap: int, per_principal: int
) -> tuple[list[Example], list[Example]]:
    """Choose a class's hold-out among the examples that were set aside at arrival.

    Those with the lowest `holdout_rank` are a uniform sample of all that ever were set aside. The rank depends on the
    id alone, so neither the order of arrival nor the steps in between change who is chosen. An old one that has to make
    room has never been trained on, and is now.

    Args:
        old: the hold-out so far.
        arrivals: pending examples that were set aside.
        cap: examples that the hold-out may have.
        per_principal: how many of them may be one principal's.

    Returns:
        The new hold-out, lowest rank first, and the examples for which it has no room.
    """
    ranked = sorted([*old, *arrivals], key=lambda example: holdout_rank(example.id))
    holdout = first_of_each(ranked, per_principal)[:cap]
    chosen = {id(example) for example in holdout}
    return holdout, [example for example in ranked if id(example) not in chosen]
