"""Features as a server computes them."""

from __future__ import annotations

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
