"""What every selection keeps to, and herding against its definition."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from accrete_learner import selection

NAMES = sorted(selection.SELECTIONS)


def features(count: int, length: int = 6, seed: int = 3) -> torch.Tensor:
    """Like a ReLU network's: positive, of different lengths, with near and exact duplicates."""
    made = torch.randn(count, length, generator=torch.Generator().manual_seed(seed)).abs() + 0.01
    made[count // 2 :] = made[: count - count // 2] * 2
    return made


def choose(name: str, data: torch.Tensor, count: int, seed: int = 0) -> list[int]:
    return selection.select(name, data, count, torch.Generator().manual_seed(seed)).tolist()


def brute_force_herding(data: torch.Tensor, count: int) -> list[float]:
    """Distances from the class mean after each pick, trying every remaining example. iCaRL, algorithm 4, as printed."""
    unit = torch.nn.functional.normalize(data.double(), dim=1)
    mean = unit.mean(0)
    chosen: list[int] = []
    distances: list[float] = []
    for k in range(1, count + 1):
        total = unit[chosen].sum(0)
        tried = {i: float((mean - (unit[i] + total) / k).norm()) for i in range(len(unit)) if i not in chosen}
        chosen.append(min(tried, key=tried.__getitem__))
        distances.append(tried[chosen[-1]])
    return distances


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("count", "wanted"), [(1, 1), (20, 5), (5, 20), (20, 20), (7, 0), (0, 3)])
def test_indices_are_distinct_in_range_and_clipped_to_what_there_is(name: str, count: int, wanted: int):
    chosen = choose(name, features(count), wanted)
    assert len(chosen) == len(set(chosen)) == min(count, wanted)
    assert set(chosen) <= set(range(count))


@pytest.mark.parametrize("name", NAMES)
def test_fewer_exemplars_are_the_first_of_more(name: str):
    data = features(15)
    longest = choose(name, data, 15)
    assert [choose(name, data, count) for count in range(15)] == [longest[:count] for count in range(15)]


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_chooses_the_same(name: str):
    assert choose(name, features(30), 10, seed=5) == choose(name, features(30), 10, seed=5)


@pytest.mark.parametrize("name", NAMES)
def test_examples_all_alike_are_still_chosen_once_each(name: str):
    assert sorted(choose(name, torch.ones(9, 4), 9)) == list(range(9))


@pytest.mark.parametrize("name", NAMES)
def test_indices_are_whole_numbers_on_the_features_device(name: str):
    chosen = selection.select(name, features(9), 4, torch.Generator().manual_seed(0))
    assert (chosen.dtype, chosen.device.type) == (torch.int64, "cpu")


@pytest.mark.parametrize("seed", range(5))
def test_herding_stays_as_close_to_the_mean_as_trying_every_example(seed: int):
    data = features(24, seed=seed)
    unit = torch.nn.functional.normalize(data.double(), dim=1)
    chosen = choose("herding", data, 24)
    sums = unit[chosen].cumsum(0) / torch.arange(1, 25)[:, None]
    ours = (unit.mean(0) - sums).norm(dim=1)
    assert torch.allclose(ours, torch.tensor(brute_force_herding(data, 24), dtype=torch.float64), atol=1e-12)


def test_herding_looks_at_directions_and_not_at_lengths():
    data = features(12)
    scaled = data * torch.linspace(0.1, 10, 12)[:, None]
    unit = torch.nn.functional.normalize(data, dim=1)
    assert torch.allclose(unit[choose("herding", data, 6)], unit[choose("herding", scaled, 6)], atol=1e-6)


def test_random_choices_differ_between_seeds():
    assert choose("random", features(30), 10, seed=1) != choose("random", features(30), 10, seed=2)


def test_herding_refuses_features_that_are_not_numbers():
    with pytest.raises(ValueError, match="finite"):
        choose("herding", torch.tensor([[1.0, float("nan")]]), 1)


def test_an_unknown_selection_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="selection = 'best': must be one of herding, histogram, random"):
        selection.by_name("best")


@pytest.mark.parametrize("count", [5, 13, 50])
def test_a_histogram_keeps_each_bins_share_at_every_length(count: int) -> None:
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(100, 6, generator=generator) + torch.tensor([3.0, 0, 0, 0, 0, 0])
    picked = selection.select("histogram", features, count, torch.Generator().manual_seed(2))
    unit = F.normalize(features.double(), dim=1)
    distances = (unit - unit.mean(0)).norm(dim=1)
    low, high = distances.min(), distances.max()
    bins = ((distances - low) / (high - low) * 10).long().clamp(max=9)
    shares = torch.bincount(bins, minlength=10) * count / 100
    assert ((torch.bincount(bins[picked], minlength=10) - shares).abs() <= 1.01).all()


def test_a_histogram_of_examples_that_are_all_alike_is_one_bin() -> None:
    picked = selection.select("histogram", torch.ones(6, 3), 4, torch.Generator().manual_seed(1))
    assert len(set(picked.tolist())) == 4
