"""The rule from features to probabilities."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from accrete_model.card import ModelCard
from accrete_model.input_spec import InputSpec
from accrete_model.rules import NearestMean
from accrete_model.rules.cosine import Cosine
from accrete_model.rules.linear import Linear
from accrete_model.rules.random_features import RandomFeatures
from accrete_model.scoring import Classifier, PrototypeSet
from accrete_model.vectors import Floats, softmax, unit

LABELS = ("a", "b", "c")
NO_MASK: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Head:
    """Random tensors of three classes."""

    weight: Floats
    bias: Floats
    means: Floats

    def classifier(
        self,
        kind: str = "linear",
        mask: Set[str] = NO_MASK,
        prototypes: PrototypeSet | None = None,
        labels: Sequence[str] | None = None,
    ) -> Classifier:
        card = ModelCard(
            backbone="test",
            spec=InputSpec((5,), "float32"),
            feature_length=5,
            labels=LABELS,
            head="linear",
            rule="head",
            method="finetune",
            nme_scale=10.0,
        )
        return Classifier(card, self.rule(kind), self.means, mask, prototypes, labels)

    def rule(self, kind: str) -> Any:
        if kind == "nme":
            return NearestMean(means=self.means, scale=10.0)
        if kind == "cosine":
            ones, zeros = np.ones(3, np.float32), np.zeros(3, np.float32)
            return Cosine(weight=self.weight, scale=np.array([4.0], np.float32), gain=ones, bias=zeros)
        return Linear(weight=self.weight, bias=self.bias)


@pytest.fixture
def head(generator):
    return Head(
        generator.standard_normal((3, 5)).astype(np.float32),
        generator.standard_normal(3).astype(np.float32),
        unit(generator.standard_normal((3, 5)).astype(np.float32)),
    )


@pytest.fixture
def generator():
    return np.random.default_rng(7)


@pytest.fixture
def features(generator):
    return generator.standard_normal((6, 5)).astype(np.float32)


def _softmax64(scores: Any) -> Any:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def _cosines64(features: Any, rows: Any) -> Any:
    f, r = features.astype(np.float64), rows.astype(np.float64)
    return (f / np.linalg.norm(f, axis=1, keepdims=True)) @ (r / np.linalg.norm(r, axis=1, keepdims=True)).T


def test_a_linear_head_answers_the_softmax_of_its_scores(head, features):
    wanted = _softmax64(features.astype(np.float64) @ head.weight.T + head.bias)
    np.testing.assert_allclose(head.classifier()(features), wanted, atol=1e-5)


def test_a_cosine_head_scales_cosines(head, features):
    wanted = _softmax64(4.0 * _cosines64(features, head.weight))
    np.testing.assert_allclose(head.classifier("cosine")(features), wanted, atol=1e-5)


def test_a_corrected_cosine_head_stretches_and_shifts_each_class(head, features):
    gain, bias = np.array([1, 1, 0.7], np.float32), np.array([0, 0, -1.5], np.float32)
    rule = Cosine(weight=head.weight, scale=np.array([4.0], np.float32), gain=gain, bias=bias)
    wanted = gain * 4.0 * _cosines64(features, head.weight) + bias
    np.testing.assert_allclose(rule.scores([0, 1, 2])(features), wanted, atol=1e-5)
    np.testing.assert_allclose(rule.scores([2, 0])(features), wanted[:, [2, 0]], atol=1e-5)


def test_a_random_features_head_regresses_on_what_is_positive(head, features, generator):
    projection, weight = generator.standard_normal((5, 7)), generator.standard_normal((3, 7))
    rule = RandomFeatures(
        projection=projection.astype(np.float32),
        weight=weight.astype(np.float32),
        bias=head.bias,
        scale=np.array([3.0], np.float32),
    )
    wanted = 3 * (np.maximum(features @ projection, 0) @ weight.T + head.bias)
    np.testing.assert_allclose(rule.scores([0, 1, 2])(features), wanted, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(rule.scores([1])(features), wanted[:, [1]], rtol=1e-4, atol=1e-4)


def test_the_nme_rule_scales_cosines_to_the_class_means(head, features):
    wanted = _softmax64(10.0 * _cosines64(features, head.means))
    np.testing.assert_allclose(head.classifier("nme")(features), wanted, atol=1e-5)


@pytest.mark.parametrize("rule", ["linear", "nme"])
def test_a_masked_label_is_gone_and_the_rest_sums_to_one(head, features, rule):
    every = head.classifier(rule)(features)
    masked = head.classifier(rule, frozenset({"b", "unknown"}))
    assert masked.labels == ("a", "c")
    np.testing.assert_allclose(masked(features), every[:, [0, 2]] / every[:, [0, 2]].sum(1, keepdims=True), atol=1e-5)


def test_a_provisional_class_takes_its_share_from_the_known_ones(head, features, generator):
    vectors = unit(generator.standard_normal((2, 5)).astype(np.float32))
    classifier = head.classifier(prototypes=PrototypeSet(labels=("x", "y"), vectors=vectors))
    got = classifier(features)
    assert classifier.labels == ("a", "b", "c", "x", "y")
    assert classifier.provisional.tolist() == [False, False, False, True, True]
    near = _softmax64(10.0 * _cosines64(features, np.concatenate([head.means, vectors])))
    known = head.classifier()(features)
    np.testing.assert_allclose(got[:, 3:], near[:, 3:], atol=1e-5)
    np.testing.assert_allclose(got[:, :3], (1 - near[:, 3:].sum(1, keepdims=True)) * known, atol=1e-5)
    np.testing.assert_allclose(got.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("rule", ["linear", "cosine", "nme"])
def test_a_prototype_wins_exactly_when_it_is_ahead_by_more_than_the_margin(head, features, generator, rule):
    vectors = unit(generator.standard_normal((2, 5)).astype(np.float32))
    leads = (unit(features) @ vectors.T).max(1) - head.classifier(rule).strengths(features).max(1)
    for margin in np.sort(leads)[1:-1] + 1e-4:
        classifier = head.classifier(
            rule, prototypes=PrototypeSet(labels=("x", "y"), vectors=vectors, margin=float(margin))
        )
        won = classifier.provisional[classifier(features).argmax(1)]
        assert won.tolist() == (leads > margin).tolist()
        assert 0 < won.sum() < len(won)


def test_a_prototype_of_a_learned_label_is_ignored(head, features):
    prototypes = PrototypeSet(labels=("a",), vectors=np.eye(1, 5, dtype=np.float32))
    classifier = head.classifier(prototypes=prototypes)
    assert classifier.labels == LABELS
    assert not classifier.provisional.any()


def test_a_forgotten_label_taught_again_is_provisional(head, features):
    prototypes = PrototypeSet(labels=("a",), vectors=np.eye(1, 5, dtype=np.float32))
    classifier = head.classifier(mask=frozenset({"a"}), prototypes=prototypes)
    assert classifier.labels == ("b", "c", "a")
    assert classifier.provisional.tolist() == [False, False, True]


def test_prototypes_alone_can_answer(head, features):
    prototypes = PrototypeSet(labels=("x", "y"), vectors=np.eye(2, 5, dtype=np.float32))
    classifier = head.classifier(mask=frozenset(LABELS), prototypes=prototypes)
    assert classifier.labels == ("x", "y")
    np.testing.assert_allclose(classifier(features).sum(axis=1), 1, atol=1e-5)


def test_with_every_label_masked_there_is_nothing_to_answer(head, features):
    classifier = head.classifier(mask=frozenset(LABELS))
    assert classifier.labels == ()
    assert classifier(features).shape == (6, 0)


@pytest.mark.parametrize("vectors", [np.ones((1, 4), np.float32), np.full((1, 5), np.nan, np.float32)])
def test_prototypes_of_another_feature_space_are_refused(head, vectors):
    with pytest.raises(ValueError, match="prototypes"):
        head.classifier(prototypes=PrototypeSet(labels=("x",), vectors=vectors))


def test_softmax_of_huge_scores_is_finite():
    np.testing.assert_allclose(softmax(np.array([[1e4, 0.0]], np.float32)), [[1, 0]])


def test_a_zero_vector_has_no_direction_and_no_nan():
    assert unit(np.zeros((1, 3), np.float32)).tolist() == [[0, 0, 0]]


@pytest.mark.parametrize("kind", ["linear", "cosine", "nme"])
def test_rows_of_one_label_answer_as_one_class(head: Head, generator: np.random.Generator, kind: str):
    features = generator.standard_normal((9, 5)).astype(np.float32)
    apart = head.classifier(kind)
    merged = head.classifier(kind, labels=("a", "b", "a"))
    assert merged.labels == ("a", "b")
    a, b, c = apart(features).T
    np.testing.assert_allclose(merged(features), np.stack([a + c, b], axis=1), atol=1e-6)
    np.testing.assert_array_equal(merged.nearness(features), apart.nearness(features))
    prototypes = PrototypeSet(labels=("new", "b"), vectors=unit(generator.standard_normal((2, 5)).astype(np.float32)))
    with_new = head.classifier(kind, prototypes=prototypes, labels=("a", "b", "a"))
    assert with_new.labels == ("a", "b", "new")
    a, b, c, new = head.classifier(kind, prototypes=prototypes)(features).T
    np.testing.assert_allclose(with_new(features), np.stack([a + c, b, new], axis=1), atol=1e-6)


def test_a_row_without_a_label_is_left_out(head: Head, generator: np.random.Generator):
    features = generator.standard_normal((9, 5)).astype(np.float32)
    found = head.classifier(labels=("", "x", "c"), mask={"c"})
    assert found.labels == ("x",)
    np.testing.assert_array_equal(found(features), np.ones((9, 1)))
    with pytest.raises(ValueError, match="2 labels for a version of 3 rows"):
        head.classifier(labels=("a", "b"))
