"""How batches are cut and padded on their way into an engine."""

from __future__ import annotations

import numpy as np
import pytest

from accrete_model.engines.base import doubling, run_in_parts, run_padded


@pytest.mark.parametrize(("limit", "sizes"), [(1, (1,)), (2, (1, 2)), (6, (1, 2, 4, 6)), (8, (1, 2, 4, 8))])
def test_sizes_double_up_to_the_limit(limit, sizes):
    assert doubling(limit) == sizes


def test_padding_goes_in_and_its_features_do_not_come_out():
    seen = []

    def run(batch):
        seen.append(len(batch))
        return batch * 2

    batch = np.arange(3, dtype=np.float32)[:, None]
    np.testing.assert_array_equal(run_padded(run, batch, (1, 2, 4)), batch * 2)
    assert seen == [4]


def test_long_batches_are_cut_and_joined_in_order():
    seen = []

    def run(batch):
        seen.append(len(batch))
        return batch * 2

    batch = np.arange(7, dtype=np.float32)[:, None]
    np.testing.assert_array_equal(run_in_parts(run, batch, 3), batch * 2)
    assert seen == [3, 3, 1]
