"""The sums: the same whatever the order and the split, and without what was taken out of them."""

from __future__ import annotations

import numpy as np
import pytest

from accrete_learner.analytic import Statistics
from accrete_learner.analytic.statistics import Doubles, Labels

LENGTH, CLASSES = 12, 4


def data(count: int = 500, seed: int = 3) -> tuple[Doubles, Labels]:
    """Return features of about unit length in float16, as they are stored, and classes of unequal sizes."""
    random = np.random.default_rng(seed)
    y = random.choice(CLASSES, count, p=[0.4, 0.3, 0.2, 0.1])
    x = random.standard_normal((count, LENGTH)) / np.sqrt(LENGTH) + np.eye(CLASSES, LENGTH)[y]
    return x.astype(np.float16).astype(np.float64), y


def same(one: Statistics, other: Statistics) -> bool:
    """Return whether both have the same bits."""
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("counts", "sums", "gram"))


def test_the_sums_are_those_of_their_definition() -> None:
    x, y = data()
    statistics = Statistics.empty(LENGTH, CLASSES).with_examples(x, y)
    assert statistics.counts.tolist() == np.bincount(y).tolist()
    np.testing.assert_allclose(statistics.gram, x.T @ x, rtol=1e-4)
    np.testing.assert_allclose(statistics.means(), [x[y == c].mean(axis=0) for c in range(CLASSES)], atol=1e-6)
    assert (statistics.example_count, statistics.class_count, statistics.feature_length) == (500, CLASSES, LENGTH)


def test_any_order_and_any_split_give_the_same_bits() -> None:
    x, y = data(9000)  # more than one chunk
    at_once = Statistics.empty(LENGTH, CLASSES).with_examples(x, y)
    for seed in range(5):
        random = np.random.default_rng(seed)
        order = random.permutation(len(y))
        statistics = Statistics.empty(LENGTH)
        for part in np.split(order, np.sort(random.integers(0, len(y), 7))):
            grown = max(statistics.class_count, int(y[part].max(initial=-1)) + 1)
            statistics = statistics.grown(grown).with_examples(x[part], y[part])
        assert same(statistics, at_once)


def test_removed_examples_leave_what_never_saw_them_to_the_last_bit() -> None:
    x, y = data()
    gone = np.random.default_rng(1).random(len(y)) < 0.4
    without = Statistics.empty(LENGTH, CLASSES).with_examples(x, y).without_examples(x[gone], y[gone])
    assert same(without, Statistics.empty(LENGTH, CLASSES).with_examples(x[~gone], y[~gone]))
    assert same(without.without_examples(x[~gone], y[~gone]), Statistics.empty(LENGTH, CLASSES))


def test_large_features_are_removed_to_rounding() -> None:
    x, y = data()
    x *= 1234.567
    gone = y == 1
    without = Statistics.empty(LENGTH, CLASSES).with_examples(x, y).without_examples(x[gone], y[gone])
    never = Statistics.empty(LENGTH, CLASSES).with_examples(x[~gone], y[~gone])
    np.testing.assert_allclose(without.gram, never.gram, rtol=1e-12, atol=1e-6)
    assert not without.sums[1].any()


def test_a_dropped_class_leaves_the_others_in_their_new_order() -> None:
    x, y = data()
    gone = y == 1
    statistics = Statistics.empty(LENGTH, CLASSES).with_examples(x, y)
    with pytest.raises(ValueError, match=f"class 1 is dropped with {gone.sum()} examples"):
        statistics.keep_rows([3, 0, 2])
    kept = statistics.without_examples(x[gone], y[gone]).keep_rows([3, 0, 2])
    renamed = np.array([1, -1, 2, 0])[y[~gone]]
    assert same(kept, Statistics.empty(LENGTH, 3).with_examples(x[~gone], renamed))


def test_bad_examples_are_refused_and_change_nothing() -> None:
    x, y = data(20)
    statistics = Statistics.empty(LENGTH, CLASSES).with_examples(x, y)
    before = [array.copy() for array in (statistics.counts, statistics.sums, statistics.gram)]
    broken = x.copy()
    broken[3, 4] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        statistics.with_examples(broken, y)
    with pytest.raises(ValueError, match=r"shape \(20, 11\)"):
        statistics.with_examples(x[:, 1:], y)
    with pytest.raises(ValueError, match="and 19 labels"):
        statistics.with_examples(x, y[1:])
    with pytest.raises(ValueError, match="classes 0 to 4: must be 0 to 3"):
        statistics.with_examples(x[:2], [0, 4])
    with pytest.raises(ValueError, match="classes -1 to 0"):
        statistics.with_examples(x[:2], [0, -1])
    with pytest.raises(ValueError, match="class 2: 1 more"):
        statistics.without_examples(x[:1].repeat(statistics.counts[2] + 1, axis=0), [2] * int(statistics.counts[2] + 1))
    with pytest.raises(ValueError, match="class_count = 3: there are 4"):
        statistics.grown(3)
    for array, old in zip((statistics.counts, statistics.sums, statistics.gram), before, strict=True):
        assert np.array_equal(array, old)
