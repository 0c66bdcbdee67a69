"""Our SGD against torch's own class, and what it leaves out."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from accrete_learner.training.sgd import Sgd
from tests.learner.test_methods import STEPS, configured, run_steps
from tests.support.forks import fork


@pytest.mark.parametrize(
    ("momentum", "decay", "nesterov"), [(0.0, 0.0, False), (0.9, 0.0, False), (0.9, 0.01, False), (0.9, 0.01, True)]
)
def test_it_computes_what_torchs_class_does(momentum: float, decay: float, nesterov: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    ours = [torch.nn.Parameter(torch.randn(5, 3, generator=generator)) for _ in range(3)]
    theirs = [torch.nn.Parameter(one.detach().clone()) for one in ours]
    mine = Sgd(ours, rate=0.1, momentum=momentum, weight_decay=decay, nesterov=nesterov)
    torchs = torch.optim.SGD(theirs, lr=0.1, momentum=momentum, weight_decay=decay, nesterov=nesterov)
    for step in range(4):
        mine.rate = torchs.param_groups[0]["lr"] = 0.1 / (step + 1)
        mine.zero_grad()
        torchs.zero_grad()
        for number, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            if number != step:  # each of them has no gradient once, the first of them at first
                one.grad = torch.randn(5, 3, generator=generator)
                other.grad = one.grad.clone()
        mine.step()
        torchs.step()
        assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True)), step
    assert all(parameter.grad is not None for parameter in ours)


def _learn(told: Path) -> None:
    run_steps(configured("lucir"), STEPS["increment"])
    told.write_text(str("torch._dynamo" in sys.modules))


@pytest.mark.integration
def test_a_step_that_compiles_nothing_imports_no_compiler(tmp_path: Path) -> None:
    process = fork(_learn, tmp_path / "told")
    process.join(300)
    assert (tmp_path / "told").read_text() == "False"
