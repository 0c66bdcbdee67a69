"""What a candidate must show."""

from __future__ import annotations

import pytest

from accrete_learner.metrics import Tally
from accrete_learner_service.config import GateConfig
from accrete_learner_service.step.gate import drop_is_sure, judge


def tallies(**hits_of_ten: int) -> dict[str, Tally]:
    return {label: Tally(hits=hits, total=10) for label, hits in hits_of_ten.items()}


PARENT = tallies(a=10, b=8)


def test_a_small_drop_on_the_old_classes_passes():
    verdict = judge(tallies(a=9, b=7, c=10), PARENT, new_labels={"c"}, config=GateConfig())
    assert (verdict.accepted, verdict.old_before, verdict.old_after) == (True, 0.9, 0.8)
    assert verdict.reason == "accuracy on the old classes went from 0.900 on 20 examples to 0.800 on 20"


def test_a_larger_drop_is_rejected_with_the_numbers():
    verdict = judge(tallies(a=6, b=4, c=10), PARENT, new_labels={"c"}, config=GateConfig())
    assert (verdict.accepted, verdict.old_before, verdict.old_after) == (False, 0.9, 0.5)
    assert verdict.reason == (
        "accuracy on the old classes went from 0.900 on 20 examples to 0.500 on 20; a drop of 0.1 is allowed"
    )


def test_a_drop_that_may_be_chance_passes_and_says_so():
    verdict = judge(tallies(a=9, b=6, c=10), PARENT, new_labels={"c"}, config=GateConfig())
    assert (verdict.accepted, verdict.judged) == (True, True)
    assert verdict.reason.endswith("to 0.750 on 20, which may be chance")


@pytest.mark.parametrize(("before", "after", "total", "sure"), [(56, 43, 70, True), (9, 7, 10, False)])
def test_the_difference_of_two_shares_is_sure_beyond_its_interval(before: int, after: int, total: int, sure: bool):
    """Newcombe 1998, table II: 56/70 and 48/80 differ by 0.0524 to 0.3339, 9/10 and 3/10 by 0.1705 to 0.8090."""
    assert drop_is_sure(Tally(hits=56, total=70), Tally(hits=48, total=80))
    assert drop_is_sure(Tally(hits=9, total=10), Tally(hits=3, total=10))
    assert drop_is_sure(Tally(hits=before, total=total), Tally(hits=after, total=total)) is sure


def test_new_classes_below_the_minimum_are_rejected_unless_it_may_be_chance():
    config = GateConfig(min_new=0.5, min_holdout=10)
    verdict = judge(tallies(a=10, b=8, c=1), PARENT, new_labels={"c"}, config=config)
    assert not verdict.accepted
    assert "0.100 on 10 examples; 0.5 is asked for" in verdict.reason
    verdict = judge(tallies(a=10, b=8, c=4), PARENT, new_labels={"c"}, config=config)
    assert verdict.accepted
    assert "0.400 on 10 examples, which may be chance" in verdict.reason


def test_too_few_examples_are_not_judged():
    verdict = judge(tallies(a=0, b=0, c=0), PARENT, new_labels={"c"}, config=GateConfig(min_holdout=21, min_new=0.5))
    assert (verdict.accepted, verdict.judged, verdict.old_before) == (True, False, None)
    assert verdict.reason == (
        "not judged on the old classes: 20 examples measure them, 21 are needed; "
        "not judged on the new classes: 10 examples measure them, 21 are needed"
    )


def test_a_candidate_that_nothing_measures_any_more_is_not_judged():
    verdict = judge({}, PARENT, new_labels=(), config=GateConfig())
    assert (verdict.accepted, verdict.judged) == (True, False)
    assert "no example measures them" in verdict.reason


def test_an_open_gate_lets_everything_pass():
    assert judge(tallies(a=0, b=0), PARENT, new_labels=(), config=GateConfig(enabled=False)).accepted


@pytest.mark.parametrize("candidate", [{}, tallies(a=1)])
def test_the_first_version_has_nothing_to_lose(candidate: dict[str, Tally]):
    assert judge(candidate, {}, new_labels={"a"}, config=GateConfig()).accepted
