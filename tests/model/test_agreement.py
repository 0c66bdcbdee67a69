"""Every head and every rule: a server computes in numpy what the head that trained, or the formula, says in torch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from accrete_learner import fitting, heads
from accrete_learner.backbones import build
from accrete_learner.config import ModelConfig
from accrete_learner.export import Candidate, write
from accrete_model.config import EngineConfig
from accrete_model.loaded_version import LoadedVersion, load
from accrete_model.scoring import PrototypeSet

LABELS = tuple("abcdef")
LENGTH = 9
HEADS = ("linear", "cosine", "corrected", "random_features", "scaled_random_features")
FITTED = ("knn", "mlp", "svm")
MASKS = (frozenset[str](), frozenset({"b", "f"}), frozenset(LABELS[1:]))


def _head(kind: str, generator: torch.Generator) -> dict[str, Tensor]:
    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    shared = {"means": F.normalize(normal(6, LENGTH), dim=1), "blocks": torch.arange(6)}
    if kind == "linear":
        return shared | {"weight": normal(6, LENGTH), "bias": normal(6)}
    if kind == "cosine":
        return shared | {"weight": normal(6, LENGTH), "scale": torch.tensor([8.0])}
    if kind == "corrected":
        correction = {"gain": normal(6).abs(), "bias": normal(6)}
        return shared | {"weight": normal(6, LENGTH), "scale": torch.tensor([8.0])} | correction
    random = shared | {"projection": normal(LENGTH, 30), "weight": 0.1 * normal(6, 30), "bias": normal(6)}
    return random | ({"scale": torch.tensor([4.0])} if kind.startswith("scaled") else {})


def _exemplars(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Very unequal classes; "e" has none."""
    y = torch.arange(6).repeat_interleave(torch.tensor([12, 1, 7, 30, 0, 4]))
    return torch.randn(6, LENGTH, generator=generator)[y] + torch.randn(len(y), LENGTH, generator=generator), y


def _load(folder, head: str, rule: str, generator: torch.Generator) -> tuple[Candidate, LoadedVersion]:
    model = ModelConfig(backbone="identity", embedding=LENGTH)
    x, y = _exemplars(generator)
    candidate = Candidate(
        backbone=build(model, generator=generator),
        head=_head(head, generator),
        labels=LABELS,
        model=model,
        method="finetune",
        rule=rule,
        rule_tensors=fitting.fit(rule, x, y, class_count=6, generator=generator),
    )
    write(folder / "v", candidate, x)
    return candidate, load(folder / "v", 1, EngineConfig(device="cpu"))  # the golden check is in here


def _wanted(candidate: Candidate, features: Tensor, kept: list[int]) -> Tensor:
    """Probabilities [N, K] of the classes kept."""
    unit = F.normalize(features, dim=1)
    if candidate.rule == "head":
        scores: Tensor = heads.restore(candidate.head)(features).detach()
    elif candidate.rule == "nme":
        scores = 10 * unit @ candidate.head["means"].T
    elif candidate.rule == "knn":  # a forgotten class's exemplars leave their places to others
        return _knn(_without(candidate.rule_tensors, kept), unit)
    else:
        scores = {"mlp": _mlp, "svm": _svm}[candidate.rule](candidate.rule_tensors, unit)
    return scores[:, kept].softmax(1)


def _mlp(tensors: Mapping[str, Tensor], unit: Tensor) -> Tensor:
    hidden = F.linear(unit, tensors["weight_1"], tensors["bias_1"]).relu()
    return F.linear(hidden, tensors["weight_2"], tensors["bias_2"])


def _svm(tensors: Mapping[str, Tensor], unit: Tensor) -> Tensor:
    kernel = (-tensors["gamma"] * torch.cdist(unit.double(), tensors["x"].double()).square()).exp()
    return F.linear(kernel.float(), tensors["dual"], tensors["intercept"])


def _knn(tensors: Mapping[str, Tensor], unit: Tensor) -> Tensor:
    """Example by example, the smoothed share of the votes of each class that has exemplars."""
    shares = torch.full((len(unit), len(tensors["offset"])), float(tensors["smoothing"]) / len(tensors["offset"]))
    for row, cosines in enumerate(unit @ tensors["x"].T):
        count = min(int(tensors["neighbours"]), len(cosines))
        weights, order = ((cosines - cosines.max()) / tensors["temperature"]).exp().sort(descending=True)
        first_without = weights[count] if count < len(weights) else 0
        shares[row].index_add_(0, tensors["y"][order[:count]], weights[:count] - first_without)
    return ((shares / shares.sum(1, keepdim=True)).log() + tensors["offset"]).softmax(1)


def _without(tensors: Mapping[str, Tensor], kept: list[int]) -> dict[str, Tensor]:
    stay = torch.isin(tensors["y"], torch.tensor(kept))
    y = torch.searchsorted(torch.tensor(kept), tensors["y"][stay])
    return {**tensors, "x": tensors["x"][stay], "y": y, "offset": tensors["offset"][kept]}


@pytest.mark.parametrize("mask", MASKS, ids=len)
@pytest.mark.parametrize(
    ("head", "rule"), [*((head, "head") for head in HEADS), ("cosine", "nme"), *(("linear", rule) for rule in FITTED)]
)
def test_the_engine_answers_what_the_learner_does(tmp_path, generator, head, rule, mask):
    candidate, loaded = _load(tmp_path, head, rule, generator)
    features = torch.randn(40, LENGTH, generator=generator)
    kept = [row for row, label in enumerate(LABELS) if label not in mask]
    classifier = loaded.classifier(mask)
    got = classifier(features.numpy())
    assert classifier.labels == tuple(LABELS[row] for row in kept)
    np.testing.assert_allclose(got, _wanted(candidate, features, kept).numpy(), atol=1e-5)


@pytest.mark.parametrize("rule", ["head", "nme", *FITTED])
def test_a_provisional_class_takes_the_same_share_whatever_the_rule(tmp_path, generator, rule):
    candidate, loaded = _load(tmp_path, "cosine", rule, generator)
    features = torch.randn(40, LENGTH, generator=generator)
    vectors = F.normalize(torch.randn(2, LENGTH, generator=generator), dim=1)
    prototypes = PrototypeSet(labels=("b", "x"), vectors=vectors.numpy())  # "b" was forgotten and is taught again
    classifier = loaded.classifier(frozenset({"b"}), prototypes)
    got = classifier(features.numpy())
    assert classifier.labels == ("a", "c", "d", "e", "f", "b", "x")
    assert classifier.provisional.tolist() == [False] * 5 + [True] * 2
    kept = [0, 2, 3, 4, 5]
    near = 10 * F.normalize(features, dim=1) @ torch.cat([candidate.head["means"][kept], vectors]).T
    new = near.softmax(1)[:, 5:]
    known = (1 - new.sum(1, keepdim=True)) * _wanted(candidate, features, kept)
    np.testing.assert_allclose(got, torch.cat([known, new], dim=1).numpy(), atol=1e-5)


@pytest.mark.parametrize("rule", FITTED)
def test_what_is_left_when_only_a_class_without_exemplars_stays_is_that_class(tmp_path, generator, rule):
    _, loaded = _load(tmp_path, "linear", rule, generator)
    features = torch.randn(3, LENGTH, generator=generator).numpy()
    classifier = loaded.classifier(frozenset(LABELS) - {"e"})
    assert classifier.labels == ("e",)
    np.testing.assert_allclose(classifier(features), 1)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(5)
