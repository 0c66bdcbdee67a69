"""Which versions' files go."""

from __future__ import annotations

import pytest

from accrete_learner_service.loop.retention import to_drop, to_remove, to_retire
from tests.learner_service.helpers import record

VERSIONS = [record(n, state="rejected" if n == 4 else "ready") for n in range(1, 7)]


@pytest.mark.parametrize(
    ("active", "keep", "gone"),
    [(6, 3, [2, 1]), (1, 3, [2]), (6, 9, []), (6, 1, [5, 3, 2, 1]), (3, 1, [5, 2, 1]), (0, 2, [3, 2, 1])],
)
def test_the_newest_ready_ones_and_the_active_one_stay(active: int, keep: int, gone: list[int]):
    assert to_retire(VERSIONS, active=active, keep=keep) == gone


def test_files_without_a_ready_version_are_removed():
    versions = [record(1, state="retired"), record(2), record(3, state="rejected")]
    assert to_remove(versions, [1, 2, 3, 4], upto=4) == [1, 3, 4]


def test_files_that_came_after_the_look_are_another_learners():
    assert to_remove([record(1)], [1, 2, 3], upto=2) == [2]


def test_the_oldest_records_go_unless_they_may_serve():
    states = ["ready", "rejected", "retired", "retired", "rejected", "ready", "ready"]
    records = [record(number, state=state) for number, state in enumerate(states, 1)]
    assert to_drop(records, keep=3) == [4, 3, 2]
    assert to_drop(records, keep=10) == []
