"""In which order classes arrive, and how many at a time."""

from __future__ import annotations

import numpy as np
import pytest

from accrete_experiments.protocols.orders import ORDER_1993, order, stream


def test_the_papers_order_is_what_numpys_legacy_generator_shuffles_with_seed_1993():
    shuffled = list(range(100))
    np.random.RandomState(1993).shuffle(shuffled)
    assert list(ORDER_1993) == shuffled
    assert ORDER_1993[:12] == (68, 56, 78, 8, 23, 84, 90, 65, 74, 76, 40, 89)


@pytest.mark.parametrize("asked", ["1993", 1993, " 1993 "])
def test_1993_of_a_hundred_classes_is_the_papers_order(asked: str | int):
    assert order(asked, 100) == ORDER_1993


@pytest.mark.parametrize("classes", [1, 2, 10, 100, 1000])
@pytest.mark.parametrize("seed", ["0", "7", "1993", str(2**32 - 1)])
def test_every_seed_gives_every_class_once_and_the_same_order_again(seed: str, classes: int):
    found = order(seed, classes)
    assert sorted(found) == list(range(classes))
    assert found == order(int(seed), classes)
    assert all(type(index) is int for index in found)


def test_other_seeds_give_other_orders():
    assert len({order(seed, 100) for seed in (1, 2, 3, 1993)}) == 4


@pytest.mark.parametrize("asked", ["alphabetical", "", "1.5", "-1", str(2**32)])
def test_what_is_no_seed_is_refused_by_name(asked: str):
    with pytest.raises(ValueError, match="order = "):
        order(asked, 100)


def test_no_classes_have_no_order():
    with pytest.raises(ValueError, match="at least 1"):
        order(1, 0)


@pytest.mark.parametrize(
    ("base", "step", "total", "sizes"),
    [
        (50, 10, None, [50, 10, 10, 10, 10, 10]),
        (50, 2, None, [50] + [2] * 25),
        (10, 10, None, [10] * 10),
        (0, 20, None, [20] * 5),
        (0, 10, 20, [10, 10]),
        (4, 3, 12, [4, 3, 3, 2]),
        (1, 1, 3, [1, 1, 1]),
        (100, 10, None, [100]),
        (1, 200, None, [1, 99]),
        (1, 1, 1, [1]),
    ],
)
def test_tasks_have_the_sizes_asked_for_and_the_last_takes_what_is_left(
    base: int, step: int, total: int | None, sizes: list[int]
):
    tasks = stream(ORDER_1993, base=base, step=step, total=total)
    assert [len(task) for task in tasks] == sizes
    assert [label for task in tasks for label in task] == list(ORDER_1993[:total])


@pytest.mark.parametrize(
    ("base", "step", "total"),
    [(0, 0, None), (5, 0, None), (101, 1, None), (5, 1, 4), (1, 1, 0), (1, 1, 101), (-1, 2, 9)],
)
def test_numbers_that_make_no_stream_are_refused(base: int, step: int, total: int | None):
    with pytest.raises(ValueError, match=r"total|base"):
        stream(ORDER_1993, base=base, step=step, total=total)


def test_a_class_that_arrives_twice_is_refused():
    with pytest.raises(ValueError, match="twice"):
        stream((1, 2, 1), base=1, step=1)
