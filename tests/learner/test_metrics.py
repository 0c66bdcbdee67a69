"""The metrics are the papers', by hand-computed examples."""

from __future__ import annotations

import pytest

from accrete_learner.metrics import (
    Tally,
    accuracy,
    average_incremental_accuracy,
    class_accuracy,
    forgetting,
    summarise,
)

TALLIES = {"cat": Tally(hits=9, total=10), "dog": Tally(hits=1, total=2), "owl": Tally(hits=0, total=0)}


def test_accuracy_counts_examples_and_not_classes():
    assert accuracy(TALLIES) == pytest.approx(10 / 12)
    assert accuracy(TALLIES, {"dog", "owl"}) == pytest.approx(1 / 2)


def test_what_was_not_measured_is_none_and_never_zero():
    assert accuracy({}) is None
    assert accuracy(TALLIES, {"owl"}) is None
    assert class_accuracy(TALLIES) == {"cat": 0.9, "dog": 0.5}
    assert average_incremental_accuracy([]) is None
    assert forgetting([], {"cat": 1.0}) is None


def test_the_average_includes_the_base_version():
    assert average_incremental_accuracy([0.9, None, 0.6]) == pytest.approx(0.75)


def test_forgetting_takes_each_old_class_at_its_best_and_leaves_new_ones_out():
    earlier = [{"cat": 0.9}, {"cat": 0.7, "dog": 0.6}]
    assert forgetting(earlier, {"cat": 0.5, "dog": 0.7, "owl": 1.0}) == pytest.approx((0.4 - 0.1) / 2)


def test_a_class_that_was_forgotten_on_purpose_does_not_count():
    assert forgetting([{"cat": 0.9, "dog": 0.8}], {"dog": 0.8}) == pytest.approx(0.0)


def test_a_summary_separates_old_from_new():
    tallies = {"cat": Tally(hits=6, total=10), "dog": Tally(hits=5, total=5)}
    summary = summarise(
        tallies, new_labels={"dog"}, earlier_accuracy=[0.9], earlier_class_accuracy=[{"cat": 0.9}]
    ).to_dict()
    assert summary.pop("forgetting") == pytest.approx(0.3)
    assert summary.pop("average_incremental") == pytest.approx((0.9 + 11 / 15) / 2)
    assert summary == {"all": pytest.approx(11 / 15), "old": 0.6, "new": 1.0, "examples": 15, "new_examples": 5}


def test_more_hits_than_examples_are_refused():
    with pytest.raises(ValueError, match="hits = 3"):
        Tally(hits=3, total=2)
