"""Heads and the nearest mean score by the papers' formulas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from accrete_model.errors import LoadError
from accrete_model.rules import HEADS, NearestMean, head_kind, read_rule
from accrete_model.rules.base import take_from
from accrete_model.vectors import Floats, unit


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(3)


def normal(generator: np.random.Generator, *shape: int) -> Floats:
    return generator.standard_normal(shape).astype(np.float32)


def floats(*values: Any) -> Floats:
    return np.array(values, np.float32)


def scores(head: dict[str, NDArray[Any]], features: Floats) -> Floats:
    classes = len(head["weight"])
    rule = HEADS[head_kind(head)].read(take_from("head", head), classes=classes, length=features.shape[1])
    return rule.scores(range(classes))(features)


def test_cosine_scores_are_scaled_cosines(generator):
    features, weight = normal(generator, 4, 3), normal(generator, 2, 3)
    found = scores({"weight": weight, "scale": floats(5)}, features)
    for i in range(4):
        for j in range(2):
            cosine = features[i] @ weight[j] / (np.linalg.norm(features[i]) * np.linalg.norm(weight[j]))
            assert found[i, j] == pytest.approx(5 * float(cosine), rel=1e-5)


def test_linear_scores_have_a_bias():
    head = {"weight": floats([1, 2]), "bias": floats(0.5)}
    assert scores(head, floats([3, 4])).item() == pytest.approx(11.5)


def test_a_corrected_cosine_score_is_stretched_and_shifted_by_class(generator):
    head = {"weight": normal(generator, 2, 3), "scale": floats(5)}
    features = normal(generator, 4, 3)
    plain = scores(head, features)
    corrected = scores(head | {"gain": floats(1, 0.5), "bias": floats(0, -2)}, features)
    np.testing.assert_allclose(corrected, np.stack([plain[:, 0], 0.5 * plain[:, 1] - 2], axis=1), rtol=1e-5)


def test_random_features_are_regressed_on_where_they_are_positive():
    head = {"projection": floats([1, -1, 2]), "weight": floats([1, 10, 100], [0, 0, 1]), "bias": floats(0.5, 0)}
    wanted = floats([402.5, 4], [30.5, 0])
    np.testing.assert_array_equal(scores(head, floats([2], [-3])), wanted)
    np.testing.assert_array_equal(scores(head | {"scale": floats(2)}, floats([2], [-3])), 2 * wanted)
    assert head_kind(head | {"scale": floats(2)}) == "random_features"


def test_the_nearest_mean_wins(generator):
    means, features = unit(normal(generator, 5, 4)), normal(generator, 50, 4)
    distances = np.linalg.norm(unit(features)[:, None] - means, axis=2)
    found = NearestMean(means=means).scores(range(5))(features)
    np.testing.assert_array_equal(found.argmax(axis=1), distances.argmin(axis=1))


@pytest.mark.parametrize("rule", ["head", "nme", "knn"])
def test_a_damaged_head_is_told_whatever_the_rule_is(rule):
    take = take_from("head.safetensors", {"weight": floats([1, np.inf]), "bias": floats(0)})
    with pytest.raises(LoadError, match=r"head\.safetensors: weight holds values that are not finite"):
        read_rule(rule, "linear", take, lambda: take, classes=1, length=2)
