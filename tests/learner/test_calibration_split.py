"""What is held out of training: a little, equally much of each class, and never a class's last example."""

from __future__ import annotations

import pytest
import torch

from accrete_learner.memory.calibration_split import split
from accrete_learner.memory.exemplars import Candidates


def candidates(old: list[int], new: list[int]) -> Candidates:
    """So many exemplars of each old class, and so many new examples of each class after them."""
    y = torch.tensor([label for label, count in enumerate([*old, *new]) for _ in range(count)])
    return Candidates(x=torch.zeros(len(y), 1), y=y, kept_count=sum(old))


def counts(found: torch.Tensor | None, given: Candidates) -> list[int]:
    assert found is not None
    assert len(set(found.tolist())) == len(found)
    return torch.bincount(given.y[found], minlength=int(given.y.max()) + 1).tolist()


def test_equally_many_of_each_class_whatever_its_size() -> None:
    given = candidates([20, 20], [500, 40])
    assert counts(split(given, 0.1, 2, torch.Generator().manual_seed(1)), given) == [2, 2, 2, 2]


def test_at_least_one_and_never_a_classs_last() -> None:
    given = candidates([5, 1], [2, 30])
    assert counts(split(given, 0.1, 2, torch.Generator().manual_seed(1)), given) == [1, 0, 1, 1]


@pytest.mark.parametrize(
    ("old", "new", "share"), [([20], [20], 0.0), ([1, 1], [9], 0.1), ([9], [1], 0.1), ([9, 9], [], 0.1)]
)
def test_nothing_where_nothing_could_be_fitted(old: list[int], new: list[int], share: float) -> None:
    assert split(candidates(old, new), share, len(old), torch.Generator().manual_seed(1)) is None


def test_the_seed_decides() -> None:
    given = candidates([20, 20], [50])
    first, again, other = (split(given, 0.2, 2, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert first is not None
    assert again is not None
    assert other is not None
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
