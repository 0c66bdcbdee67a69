"""The head as it is served: a function of the set of examples, from one per class on, with probabilities to believe."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from accrete_kit.intervals import wilson_interval
from accrete_learner.analytic import AnalyticHead, Statistics, choose, fit
from accrete_learner.analytic import head as analytic_head
from accrete_learner.analytic.calibration import expected_calibration_error
from accrete_learner.analytic.statistics import Doubles, Labels
from benchmarks.digits import scans

CLASSES = 10


def digits() -> tuple[Doubles, Labels, Doubles, Labels]:
    """Return features and classes to learn from and to test on: 64 pixels through a fixed random layer of 600."""
    images, y = scans()
    random = np.random.default_rng(5)
    x = np.maximum(images.reshape(-1, 64) / 255 @ random.standard_normal((64, 600)), 0)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    order = random.permutation(len(y))
    x, y = x[order].astype(np.float16).astype(np.float64), y[order].astype(np.int64)
    return x[:1000], y[:1000], x[1000:], y[1000:]


def few(y: Labels, count: int) -> Labels:
    return np.concatenate([np.flatnonzero(y == c)[:count] for c in range(CLASSES)])


def learn(x: Doubles, y: Labels, ids: list[str] | None = None, statistics: Statistics | None = None) -> AnalyticHead:
    statistics = statistics or Statistics.empty(x.shape[1], CLASSES).with_examples(x, y)
    judges = choose(ids or [str(number) for number in range(len(y))], y)
    return fit(statistics, x[judges], y[judges])


def answers(head: AnalyticHead, x: Doubles) -> Labels:
    found: Labels = (x.astype(np.float32) @ head.weight.T + head.bias).argmax(axis=1)
    return found


def probabilities(head: AnalyticHead, x: Doubles) -> Doubles:
    scores = x @ head.weight.T.astype(np.float64) + head.bias
    exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
    result: Doubles = exponentials / exponentials.sum(axis=1, keepdims=True)
    return result


def difference(one: AnalyticHead, other: AnalyticHead) -> float:
    return float(max(np.abs(one.weight - other.weight).max(), np.abs(one.bias - other.bias).max()))


def test_order_split_and_removal_change_nothing() -> None:
    x, y, *_ = digits()
    x, y, ids = x[:400], y[:400], [f"id {number}" for number in range(400)]
    head = learn(x, y, ids)
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(y))
        statistics = Statistics.empty(x.shape[1], CLASSES)
        for part in np.array_split(order, 7):
            statistics = statistics.with_examples(x[part], y[part])
        assert difference(learn(x[order], y[order], [ids[i] for i in order], statistics), head) == 0
    gone = np.arange(len(y)) % 3 == 0
    statistics = Statistics.empty(x.shape[1], CLASSES).with_examples(x, y).without_examples(x[gone], y[gone])
    kept = [name for name, leaves in zip(ids, gone, strict=True) if not leaves]
    assert difference(learn(x[~gone], y[~gone], kept, statistics), learn(x[~gone], y[~gone], kept)) == 0


@pytest.mark.parametrize(("count", "least"), [(1, 0.5), (2, 0.6), (5, 0.75), (20, 0.85), (60, 0.9), (70, 0.9)])
def test_fewer_examples_than_features_do_not_collapse(count: int, least: float) -> None:
    """Ridge regression with next to no penalty collapses where examples are as many as features: 60 per class here."""
    x, y, test_x, test_y = digits()
    chosen = few(y, count)
    head = learn(x[chosen], y[chosen])
    accuracy = (answers(head, test_x) == test_y).mean()
    design = x[chosen]
    ridge = np.linalg.solve(design.T @ design + 1e-9 * np.eye(design.shape[1]), design.T @ np.eye(CLASSES)[y[chosen]])
    plain = ((test_x @ ridge).argmax(axis=1) == test_y).mean()
    assert accuracy >= least
    assert accuracy >= plain
    if count == 60:
        assert plain < 0.8, "the case is not one in which plain solving collapses"


def test_a_class_of_three_beside_classes_of_many_is_found() -> None:
    x, y, test_x, test_y = digits()
    new = (y == 3) | (y == 8)
    chosen = np.r_[np.flatnonzero(~new), np.flatnonzero(y == 3)[:3], np.flatnonzero(y == 8)[:3]]
    statistics = Statistics.empty(x.shape[1], CLASSES).with_examples(x[chosen], y[chosen])
    found = answers(fit(statistics, x[chosen], y[chosen]), test_x)
    of_new = np.isin(test_y, [3, 8])
    assert (found[of_new] == test_y[of_new]).mean() >= 0.5
    assert (found[~of_new] == test_y[~of_new]).mean() >= 0.9


def test_leave_one_out_agrees_with_examples_kept_aside_and_probabilities_with_both() -> None:
    x, y, test_x, test_y = digits()
    head = learn(x, y)
    judged = head.judgement
    low, high = judged.interval
    assert judged.total == 1000
    accuracy = (answers(head, test_x) == test_y).mean()
    beside = wilson_interval(int(accuracy * len(test_y)), len(test_y))
    assert low <= beside[1]
    assert beside[0] <= high
    assert expected_calibration_error(judged.probabilities, judged.labels) < 0.03
    assert expected_calibration_error(probabilities(head, test_x), test_y) < 0.04
    by_class = judged.by_class()
    assert by_class[:, 1].tolist() == np.bincount(y).tolist()
    assert by_class[:, 0].sum() == judged.hits == np.trace(judged.confusion())
    assert judged.confusion().sum(axis=1).tolist() == by_class[:, 1].tolist()


def test_the_first_examples() -> None:
    one = learn(np.array([[0.6, 0.8]]), np.array([0]), statistics=None)
    assert one.judgement.accuracy is None
    assert one.judgement.interval == (0.0, 1.0)
    assert answers(one, np.array([[-1.0, 0.0]])).tolist() == [0]
    apart = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert answers(learn(apart, np.array([4, 7])), apart).tolist() == [4, 7]
    same = learn(np.array([[0.6, 0.8]] * 4), np.array([0, 0, 1, 1]))
    np.testing.assert_allclose(probabilities(same, apart)[:, :3], [[0.5, 0.5, 0]] * 2, atol=1e-6)
    assert np.isfinite(learn(np.zeros((3, 2)), np.array([0, 1, 1])).weight).all()


def test_a_class_without_examples_is_never_answered() -> None:
    x, y, test_x, _ = digits()
    chosen = np.flatnonzero((y != 2) & (y != 9))
    head = learn(x[chosen], y[chosen])
    assert not np.isin(answers(head, test_x), [2, 9]).any()
    assert not probabilities(head, test_x)[:, [2, 9]].any()
    assert not head.means[[2, 9]].any()
    assert head.judgement.by_class()[[2, 9]].tolist() == [[0, 0], [0, 0]]


def test_nothing_to_learn_from_and_unfit_judges_are_refused() -> None:
    empty = Statistics.empty(3, 2)
    with pytest.raises(ValueError, match="no example"):
        fit(empty, np.zeros((0, 3)), [])
    statistics = empty.with_examples(np.eye(3), [0, 1, 1])
    with pytest.raises(ValueError, match=r"shape \(3, 2\)"):
        fit(statistics, np.eye(3)[:, :2], [0, 1, 1])
    with pytest.raises(ValueError, match="not finite"):
        fit(statistics, np.full((1, 3), np.inf), [0])
    with pytest.raises(ValueError, match="must be 0 to 1"):
        fit(statistics, np.eye(3), [0, 1, 2])


def test_judges_are_chosen_by_the_set_alone_and_evenly() -> None:
    y = np.repeat(np.arange(3), [100, 5, 40])
    ids = [f"example {number}" for number in range(len(y))]
    chosen = choose(ids, y, 30)
    assert np.bincount(y[chosen]).tolist() == [13, 5, 12]
    order = np.random.default_rng(2).permutation(len(y))
    again = choose([ids[i] for i in order], y[order], 30)
    assert order[again].tolist() == chosen.tolist()
    assert choose([], np.zeros(0, dtype=np.int64)).tolist() == []


def test_it_needs_no_torch() -> None:
    code = "import sys, accrete_learner.analytic; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("count", "drawing"), [(20, analytic_head.WEAKER_DRAWING), (60, analytic_head.DRAWING)])
def test_another_drawing_is_tried_while_classes_have_few_examples(
    monkeypatch: pytest.MonkeyPatch, count: int, drawing: float
) -> None:
    monkeypatch.setattr(analytic_head, "_CLEARLY", -np.inf)  # whatever is tried is taken
    monkeypatch.setattr(analytic_head, "_ENOUGH", 0)
    x, y, *_ = digits()
    chosen = few(y, count)
    assert learn(x[chosen], y[chosen]).drawing == drawing
