"""DS-AL: the second stream is the regression on the first one's error, and learns of new classes alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from accrete_learner import heads
from accrete_learner.heads import RandomFeaturesHead
from accrete_learner.heads.closed_form import keep_rows
from accrete_learner.heads.dual_stream import DualStream
from accrete_learner.heads.ridge import Ridge
from accrete_learner.methods import acil
from accrete_learner.training.schedule import Cosine
from accrete_model.rules import read_rule
from accrete_model.rules.base import take_from

DUAL = DualStream(main=Ridge(width=40, penalty=2.0), share=0.5)


def data(classes: tuple[int, ...], seed: int, count: int = 30) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    y = torch.tensor(classes)[torch.randint(len(classes), (count,), generator=generator)]
    return torch.randn(count, 6, generator=generator) + 2 * torch.eye(8, 6)[y], y


def learn(parts: list[tuple[Tensor, Tensor]]) -> tuple[RandomFeaturesHead, dict[str, Tensor]]:
    head, statistics, exported = None, None, None
    for x, y in parts:
        count = max(int(y.max()) + 1, 0 if exported is None else len(exported["weight"]))
        generator = torch.Generator().manual_seed(1)
        head, statistics = DUAL.fit(x, y, count, parent_head=exported, statistics=statistics, generator=generator)
        exported = head.export()
    assert head is not None
    assert statistics is not None
    return head, statistics


def second(head: RandomFeaturesHead, parts: list[tuple[Tensor, Tensor]], errors: list[Tensor]) -> Tensor:
    """The second stream by hand, of all parts and what the first one left of each."""
    expanded = torch.tanh(torch.cat([x for x, _ in parts]).double() @ head.projection.double())
    gram = expanded.T @ expanded
    gram += DUAL.penalty * gram.diagonal().mean() / len(expanded) * torch.eye(40)
    solved: Tensor = torch.linalg.solve(gram, expanded.T @ torch.cat(errors))
    return 0.5 * solved.T


def left_over(parts: list[tuple[Tensor, Tensor]], classes: int, cleansed: int) -> Tensor:
    """The error of the first stream after these parts, on the last one."""
    x, y = parts[-1]
    first, _ = learn(parts)
    first.compensation = None
    error: Tensor = torch.eye(classes, dtype=torch.float64)[y] - (first(x) / first.scale).double()
    error[:, :cleansed] = 0
    left: Tensor = error.detach()
    return left


def test_the_second_stream_is_the_regression_on_what_the_first_leaves() -> None:
    parts = [data((0, 1), 1), data((2, 3), 2)]
    head, _ = learn(parts)
    errors = [torch.nn.functional.pad(left_over(parts[:1], 2, 0), (0, 2)), left_over(parts, 4, 2)]
    assert head.compensation is not None
    torch.testing.assert_close(head.compensation.double(), second(head, parts, errors), rtol=1e-4, atol=1e-5)


def test_it_fits_better_than_the_first_stream_alone() -> None:
    x, y = data((0, 1, 2), 1, count=200)
    head, _ = learn([(x, y)])
    with_both = (torch.eye(3)[y] - head(x) / head.scale).square().mean()
    head.compensation = None
    assert with_both < 0.98 * (torch.eye(3)[y] - head(x) / head.scale).square().mean()


def test_more_examples_of_known_classes_are_learned_and_those_of_others_left() -> None:
    parts = [data((0, 1, 2), 1)]
    head, statistics = learn([*parts, data((1,), 3)])
    _, before = learn(parts)
    changed = (statistics["compensation_sums"] - before["compensation_sums"]).abs().sum(dim=1)
    assert len(head.weight) == 3
    assert (changed > 0).all()


def test_a_first_step_of_two_examples_has_a_solution() -> None:
    x, y = data((0, 1), 1, count=2)
    head, _ = learn([(x, y)])
    assert torch.isfinite(head(x)).all()
    zero, _ = learn([(torch.zeros_like(x), y)])
    assert torch.isfinite(zero(x)).all()


def test_servers_score_it_as_the_learner_does_and_it_is_restored() -> None:
    head, _ = learn([data((0, 1), 1), data((2, 3), 2)])
    x, _ = data((0, 1, 2, 3), 4)
    exported = head.export()
    arrays = {name: tensor.numpy() for name, tensor in exported.items()}
    rule = read_rule("head", "random_features", take_from("head", arrays), dict, classes=4, length=6)  # type: ignore[arg-type]
    np.testing.assert_allclose(rule.scores(range(4))(x.numpy()), head(x).detach(), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(rule.scores([2, 0])(x.numpy()), head(x).detach()[:, [2, 0]], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(heads.restore(exported)(x), head(x))


def test_rows_of_forgotten_classes_go() -> None:
    _, statistics = learn([data((0, 1), 1), data((2, 3), 2)])
    kept = keep_rows(statistics, [0, 3])
    assert kept["compensation_gram"].shape == (40, 40)
    assert torch.equal(kept["compensation_sums"], statistics["compensation_sums"][[0, 3]])


def test_wrong_numbers_are_told() -> None:
    with pytest.raises(ValueError, match="share = 0"):
        replace(DUAL, share=0)
    with pytest.raises(ValueError, match="penalty = -1"):
        replace(DUAL, penalty=-1)


def test_the_rate_warms_up_and_falls_as_half_a_cosine() -> None:
    schedule = acil.BASE
    assert schedule.rate(5) == pytest.approx(0.25, rel=0.01)
    assert schedule.rate(10) == pytest.approx(0.5, rel=0.01)
    assert schedule.rate(155) == pytest.approx(0.25, rel=0.01)
    assert schedule.rate(300) == pytest.approx(1e-6)
    short = schedule.resized(epochs=30)
    assert isinstance(short, Cosine)
    assert short.warmup_epochs == 1
    assert short.rate(1) == pytest.approx(0.5, rel=0.01)
