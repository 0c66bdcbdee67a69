"""When a deep step starts by itself, and which examples judge it."""

from __future__ import annotations

import pytest

from accrete_learner.config import DeepConfig
from accrete_learner_service.deep.due import is_due, judging, margin
from accrete_storage.deep import LastDeepStep
from accrete_storage.examples.ids import holdout_rank

NEVER = LastDeepStep()
HUNDRED = dict.fromkeys("abcd", 25)


def test_a_fifth_of_a_class_judges_whatever_the_order():
    ids = [f"image {number}" for number in range(23)]
    found = judging(ids)
    assert len(found) == 4
    assert judging(ids[::-1]) == found
    assert max(map(holdout_rank, found)) < min(holdout_rank(name) for name in ids if name not in found)
    assert len(judging(ids[:5])) == 1
    assert judging(ids[:4]) == frozenset()


@pytest.mark.parametrize(
    ("at_hand", "last", "rested_s", "steps", "due"),
    [
        (HUNDRED, NEVER, 60.0, "auto", True),
        (HUNDRED, NEVER, 59.9, "auto", False),
        (HUNDRED, NEVER, 600.0, "off", False),
        (dict.fromkeys("abcd", 24), NEVER, 60.0, "auto", False),
        ({"a": 1000}, NEVER, 60.0, "auto", False),
        (dict.fromkeys("abcd", 30), LastDeepStep(examples=100, classes=4), 60.0, "auto", True),
        (HUNDRED | {"a": 40}, LastDeepStep(examples=100, classes=4), 60.0, "auto", False),
        (dict.fromkeys("abcde", 25), LastDeepStep(examples=110, classes=4), 60.0, "auto", True),
    ],
)
def test_it_starts_at_rest_when_enough_is_new(at_hand, last, rested_s, steps, due):
    assert is_due(at_hand, last, rested_s=rested_s, config=DeepConfig(steps=steps)) is due


def test_by_hand_a_step_must_lose_nothing_and_by_itself_gain_the_margin():
    assert margin(DeepConfig(), by_hand=False) == 0.01
    assert margin(DeepConfig(), by_hand=True) == 0.0
    assert margin(DeepConfig(margin=-0.02), by_hand=True) == -0.02
