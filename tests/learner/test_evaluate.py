"""Features as a server computes them, scores by the papers' formulas."""

from __future__ import annotations

import pytest
import torch

from accrete_learner import evaluate
from accrete_learner.backbones import build
from accrete_learner.config import ModelConfig

SMALL = ModelConfig(backbone="resnet8", input_size=8)


def batch(count: int, generator: torch.Generator) -> torch.Tensor:
    return torch.randint(0, 256, (count, 8, 8, 3), dtype=torch.uint8, generator=generator)


def test_features_do_not_depend_on_the_batches_and_leave_the_network_as_it_was(generator: torch.Generator):
    backbone = build(SMALL, generator=generator).train()
    x = batch(11, generator)
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    whole, parts = evaluate.extract(backbone, x), evaluate.extract(backbone, x, batch_size=4)
    assert torch.allclose(whole, parts, atol=1e-5)
    assert backbone.training
    assert not whole.requires_grad
    assert all(torch.equal(before[name], value) for name, value in backbone.state_dict().items())


def test_no_examples_have_no_features_of_the_right_length(generator: torch.Generator):
    assert evaluate.extract(build(SMALL, generator=generator), batch(0, generator)).shape == (0, 128)


def test_cosine_scores_are_scaled_cosines(generator: torch.Generator):
    features, weight = (torch.randn(n, 3, generator=generator, dtype=torch.float64) for n in (4, 2))
    scores = evaluate.head_scores(features, {"weight": weight, "scale": torch.tensor([5.0], dtype=torch.float64)})
    for i in range(4):
        for j in range(2):
            cosine = features[i] @ weight[j] / (features[i].norm() * weight[j].norm())
            assert scores[i, j] == pytest.approx(5 * float(cosine))


def test_linear_scores_have_a_bias():
    head = {"weight": torch.tensor([[1.0, 2.0]]), "bias": torch.tensor([0.5])}
    assert evaluate.head_scores(torch.tensor([[3.0, 4.0]]), head).item() == pytest.approx(11.5)


def test_a_corrected_cosine_score_is_stretched_and_shifted_by_class(generator: torch.Generator):
    head = {"weight": torch.randn(2, 3, generator=generator), "scale": torch.tensor([5.0])}
    features = torch.randn(4, 3, generator=generator)
    plain, gain, bias = evaluate.head_scores(features, head), torch.tensor([1.0, 0.5]), torch.tensor([0.0, -2.0])
    corrected = evaluate.head_scores(features, head | {"gain": gain, "bias": bias})
    torch.testing.assert_close(corrected, torch.stack([plain[:, 0], 0.5 * plain[:, 1] - 2], dim=1))


def test_random_features_are_regressed_on_where_they_are_positive():
    head = {"projection": torch.tensor([[1.0, -1.0, 2.0]]), "weight": torch.tensor([[1.0, 10.0, 100.0], [0, 0, 1]])}
    head |= {"bias": torch.tensor([0.5, 0.0])}
    features = torch.tensor([[2.0], [-3.0]])
    wanted = torch.tensor([[402.5, 4.0], [30.5, 0.0]])
    assert torch.equal(evaluate.head_scores(features, head), wanted)
    assert torch.equal(evaluate.head_scores(features, head | {"scale": torch.tensor([2.0])}), 2 * wanted)
    assert evaluate.head_kind(head | {"scale": torch.tensor([2.0])}) == "random_features"


def test_the_nearest_mean_wins(generator: torch.Generator):
    means = torch.nn.functional.normalize(torch.randn(5, 4, generator=generator), dim=1)
    features = torch.randn(50, 4, generator=generator)
    nearest = torch.cdist(torch.nn.functional.normalize(features, dim=1), means).argmin(1)
    assert torch.equal(evaluate.nme_scores(features, means).argmax(1), nearest)
