"""When a deep step starts by itself and what it must gain, as pure functions of what is at hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from accrete_learner.config import DeepConfig
from accrete_storage.deep import LastDeepStep
from accrete_storage.examples.ids import holdout_rank

#: Examples of a class of which one judges.
PER_JUDGE = 5
#: Examples that must judge before a deep step starts by itself: with fewer, no gain is sure that is not huge.
FEWEST_JUDGES = 20


def judging(ids: Sequence[str]) -> frozenset[str]:
    """Return which examples of a class judge: a fifth, the first by their ids' rank, whatever the order of arrival."""
    return frozenset(sorted(ids, key=holdout_rank)[: len(ids) // PER_JUDGE])


def is_due(at_hand: Mapping[str, int], last: LastDeepStep, *, rested_s: float, config: DeepConfig) -> bool:
    """Return whether a deep step starts by itself.

    Args:
        at_hand: exemplars by label, of the labels that have any.
        last: what the last one was made of.
        rested_s: seconds since the last step of any kind, with nothing due.
        config: what must be new.
    """
    if config.steps == "off" or rested_s < config.idle_s or len(at_hand) < 2:
        return False
    if sum(count // PER_JUDGE for count in at_hand.values()) < FEWEST_JUDGES:
        return False
    grown = 1 + config.growth
    return sum(at_hand.values()) >= grown * last.examples or len(at_hand) >= grown * last.classes


def margin(config: DeepConfig, *, by_hand: bool) -> float:
    """Return what a deep step must gain: nothing where somebody asks for it, who has a reason to expect more."""
    return min(config.margin, 0.0) if by_hand else config.margin
