"""In which order classes arrive, and how many at a time. numpy alone."""

from collections.abc import Sequence

import numpy as np

#: The order of CIFAR-100's classes (official fine labels, which are alphabetical) in iCaRL, EEIL, BiC, LUCIR, mnemonics
#: and most comparisons since: numpy's legacy generator, seed 1993, shuffling 0 to 99.
ORDER_1993 = (
    *(68, 56, 78, 8, 23, 84, 90, 65, 74, 76, 40, 89, 3, 92, 55, 9, 26, 80, 43, 38, 58, 70, 77, 1, 85),
    *(19, 17, 50, 28, 53, 13, 81, 45, 82, 6, 59, 83, 16, 15, 44, 91, 41, 72, 60, 79, 52, 20, 10, 31, 54),
    *(37, 95, 14, 71, 96, 98, 97, 2, 64, 66, 42, 22, 35, 86, 24, 34, 87, 21, 99, 0, 88, 27, 18, 94, 11),
    *(12, 47, 25, 30, 46, 62, 69, 36, 61, 7, 63, 75, 5, 32, 4, 51, 48, 73, 93, 39, 67, 29, 49, 57, 33),
)


def order(name_or_seed: str | int, classes: int) -> tuple[int, ...]:
    """Return the data set's classes 0 to `classes` - 1 in order of arrival.

    Args:
        name_or_seed: a seed, as a number or in text. `1993` of 100 classes is `ORDER_1993`; every other is drawn as
            that one was, by numpy's legacy generator, whose numbers are promised never to change.
        classes: how many there are.

    Raises:
        ValueError: when the seed is not a whole number from 0 to 2**32 - 1, or there is no class.
    """
    if classes < 1:
        raise ValueError(f"classes = {classes}: must be at least 1")
    try:
        seed = int(name_or_seed)
    except ValueError as error:
        raise ValueError(f"order = {name_or_seed!r}: must be 1993 or another seed") from error
    if not 0 <= seed < 2**32:
        raise ValueError(f"order = {name_or_seed!r}: a seed must be 0 to 2**32 - 1")
    if (seed, classes) == (1993, len(ORDER_1993)):
        return ORDER_1993
    return tuple(int(index) for index in np.random.RandomState(seed).permutation(classes))


def stream(arrival: Sequence[int], *, base: int, step: int, total: int | None = None) -> tuple[tuple[int, ...], ...]:
    """Return the classes of each task: `base` of them, then `step` at a time; the last task may have fewer.

    Args:
        arrival: classes in order of arrival, as `order` answers them.
        base: classes of the first task; 0 stands for `step`.
        step: classes of each later task, 1 or more.
        total: how many of the order's classes come at all, from its front; None: all.

    Raises:
        ValueError: on numbers that make no stream of these classes, or a class that arrives twice.
    """
    used = len(arrival) if total is None else total
    first = base or step
    if not (1 <= used <= len(arrival)):
        raise ValueError(f"total = {used}: must be 1 to the {len(arrival)} classes that there are")
    if step < 1 or not 1 <= first <= used:
        raise ValueError(f"base {base}, step {step}: the first task must have 1 to {used} classes, a step at least 1")
    if len(set(arrival)) != len(arrival):
        raise ValueError("a class arrives twice")
    starts = (0, *range(first, used, step))
    return tuple(tuple(arrival[start : first if start == 0 else min(start + step, used)]) for start in starts)
