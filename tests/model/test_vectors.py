"""Choosing the highest."""

from __future__ import annotations

import numpy as np
import pytest

from accrete_model.vectors import highest


@pytest.mark.parametrize("columns", [1, 4, 500, 501, 2000])
@pytest.mark.parametrize("count", [1, 5, 1000])
def test_the_highest_come_first_however_many_there_are_to_choose_from(columns: int, count: int):
    scores = np.random.default_rng(columns).permuted(np.tile(np.arange(columns, dtype=np.float32), (3, 1)), axis=1)
    chosen, best = highest(scores, count)
    wanted = np.arange(columns, dtype=np.float32)[::-1][:count]
    assert (best == wanted).all()
    assert (np.take_along_axis(scores, chosen, axis=1) == wanted).all()
    assert best.shape == chosen.shape == (3, min(columns, count))


@pytest.mark.parametrize("columns", [10, 1000])
def test_of_equals_the_first_comes_first(columns: int):
    scores = np.zeros((2, columns), np.float32)
    scores[0, [2, 5, 8]] = scores[1, [0, 1, 9]] = 1
    assert highest(scores, 3)[0].tolist() == [[2, 5, 8], [0, 1, 9]]
