"""What a candidate must show."""

from __future__ import annotations

import pytest

from accrete_learner.metrics import Tally
from accrete_learner_service.config import GateConfig
from accrete_learner_service.step.gate import judge


def tallies(**hits_of_ten: int) -> dict[str, Tally]:
    return {label: Tally(hits=hits, total=10) for label, hits in hits_of_ten.items()}


PARENT = tallies(a=10, b=8)


def test_a_small_drop_on_the_old_classes_passes():
    verdict = judge(tallies(a=9, b=7, c=10), PARENT, new_labels={"c"}, config=GateConfig())
    assert verdict.accepted
    assert "0.900 to 0.800 on 20 examples" in verdict.reason


def test_a_larger_drop_is_rejected_with_the_numbers():
    verdict = judge(tallies(a=9, b=6, c=10), PARENT, new_labels={"c"}, config=GateConfig())
    assert not verdict.accepted
    assert (
        verdict.reason
        == "accuracy on the old classes went from 0.900 to 0.750 on 20 examples; a drop of 0.1 is allowed"
    )


def test_new_classes_below_the_minimum_are_rejected():
    config = GateConfig(min_new=0.5, min_holdout=10)
    verdict = judge(tallies(a=10, b=8, c=4), PARENT, new_labels={"c"}, config=config)
    assert not verdict.accepted
    assert "0.400 on 10 examples; 0.5 is asked for" in verdict.reason


def test_too_few_examples_are_not_judged():
    verdict = judge(tallies(a=0, b=0, c=0), PARENT, new_labels={"c"}, config=GateConfig(min_holdout=21, min_new=0.5))
    assert verdict.accepted
    assert verdict.reason == (
        "not judged on the old classes: 20 hold-out examples, 21 needed; "
        "not judged on the new classes: 10 hold-out examples, 21 needed"
    )


def test_an_open_gate_lets_everything_pass():
    assert judge(tallies(a=0, b=0), PARENT, new_labels=(), config=GateConfig(enabled=False)).accepted


@pytest.mark.parametrize("candidate", [{}, tallies(a=1)])
def test_the_first_version_has_nothing_to_lose(candidate: dict[str, Tally]):
    assert judge(candidate, {}, new_labels={"a"}, config=GateConfig()).accepted
