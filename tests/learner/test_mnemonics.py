"""Mnemonics: the hypergradient against its definition, and exemplars that teach better after than before."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from accrete_learner.augmentation.augment import Augmentation
from accrete_learner.backbones import build
from accrete_learner.config import ModelConfig
from accrete_learner.heads import CosineHead, LinearHead
from accrete_learner.losses import CrossEntropy
from accrete_learner.memory.exemplars import Candidates
from accrete_learner.synthesis.base import Picked
from accrete_learner.synthesis.bilevel import Batch, Unroll, Weights, hypergradient
from accrete_learner.synthesis.mnemonics import Mnemonics, loss_of, prepare
from accrete_learner.training.loop import TrainingSet, train
from accrete_learner.training.network import Network
from accrete_learner.training.schedule import Schedule

pytestmark = pytest.mark.integration

QUICK = Mnemonics(iterations=3, batch_size=8, outer_batch_size=16, rate=2.0)  # enough to see in three updates
SECOND = Unroll(rate=0.3)


# A small smooth model, in float64, whose derivatives can be checked.


def smooth_loss(weights: Weights, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(torch.tanh(x @ weights["first"]) @ weights["second"] * weights["scale"], y)


def problem(steps: int = 3) -> tuple[Weights, list[Batch], Batch]:
    draw = functools.partial(torch.randn, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    weights = {"first": draw(4, 5), "second": draw(5, 3), "scale": draw(1), "unused": draw(2)}
    inner = [(draw(3, 4), torch.tensor([0, 1, 2])) for _ in range(steps)]
    return weights, inner, (draw(7, 4), torch.arange(7) % 3)


def trained_loss(weights: Weights, inner: Sequence[Batch], outer: Batch, rate: float) -> torch.Tensor:
    """The outer loss by the definition, with autograd's own graph through the training."""
    current = {name: value.clone().requires_grad_() for name, value in weights.items() if name != "unused"}
    for x, y in inner:
        gradient = torch.autograd.grad(smooth_loss(current, x, y), list(current.values()), create_graph=True)
        current = {name: value - rate * change for (name, value), change in zip(current.items(), gradient, strict=True)}
    return smooth_loss(current, *outer)


def gradients(unroll: Unroll, steps: int = 3) -> torch.Tensor:
    weights, inner, outer = problem(steps)
    return torch.stack(hypergradient(smooth_loss, weights, inner, outer, unroll)[1])


@pytest.mark.parametrize("checkpoint", [True, False])
def test_the_gradient_is_that_of_finite_differences(checkpoint: bool):
    weights, inner, outer = problem()
    loss, found = hypergradient(smooth_loss, weights, inner, outer, replace(SECOND, checkpoint=checkpoint))
    assert torch.allclose(loss, trained_loss(weights, inner, outer, 0.3), atol=1e-12)
    step = 1e-5
    for position, (x, y) in enumerate(inner):
        for entry in range(x.numel()):
            nudge = torch.zeros(x.numel(), dtype=x.dtype)
            nudge[entry] = step
            either = []
            for sign in (1, -1):
                moved = [*inner]
                moved[position] = (x + sign * nudge.view_as(x), y)
                either.append(trained_loss(weights, moved, outer, 0.3))
            expected = float((either[0] - either[1]).detach()) / (2 * step)
            assert float(found[position].flatten()[entry]) == pytest.approx(expected, abs=1e-9)


def test_the_gradient_is_that_of_autograd_through_the_whole_training():
    weights, inner, outer = problem(5)
    inputs = [x.clone().requires_grad_() for x, _ in inner]
    loss = trained_loss(weights, [(x, y) for x, (_, y) in zip(inputs, inner, strict=True)], outer, 0.3)
    expected = torch.stack(torch.autograd.grad(loss, inputs))
    assert torch.allclose(gradients(SECOND, 5), expected, atol=1e-13)


@pytest.mark.parametrize("truncate", [None, 1, 2])
@pytest.mark.parametrize("order", ["second", "first"])
def test_running_steps_again_gives_the_gradient_of_keeping_them(order: Any, truncate: int | None):
    unroll = Unroll(rate=0.3, order=order, truncate=truncate)
    kept = gradients(replace(unroll, checkpoint=False))
    assert torch.allclose(gradients(unroll), kept, rtol=0, atol=1e-10)


def test_truncated_at_all_steps_or_beyond_is_the_full_gradient():
    assert torch.equal(gradients(replace(SECOND, truncate=3)), gradients(SECOND))
    assert torch.equal(gradients(replace(SECOND, truncate=9)), gradients(SECOND))


def test_truncated_leaves_the_last_steps_gradients_and_zeros_before():
    found, full = gradients(replace(SECOND, truncate=2)), gradients(SECOND)
    assert torch.equal(found[1:], full[1:])
    assert not found[0].any()
    assert full[0].any()


def test_first_order_is_right_for_the_last_step_and_lacks_the_hessian_before_it():
    found, full = gradients(replace(SECOND, order="first")), gradients(SECOND)
    assert torch.allclose(found[-1], full[-1], atol=1e-14)
    assert not torch.allclose(found[0], full[0], rtol=0.05)
    assert float(F.cosine_similarity(found[0].flatten(), full[0].flatten(), dim=0)) > 0.3


def test_without_inner_steps_there_is_a_loss_and_no_gradient():
    weights, _, outer = problem()
    loss, found = hypergradient(smooth_loss, weights, [], outer, SECOND)
    assert torch.equal(loss, smooth_loss(weights, *outer))
    assert found == []


def test_inputs_that_no_weight_sees_get_zeros():
    weights = {"bias": torch.zeros(3, dtype=torch.float64)}

    def loss(own: Weights, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(own["bias"].expand(len(x), 3), y)

    x = torch.ones(2, 4, dtype=torch.float64)
    _, found = hypergradient(loss, weights, [(x, torch.tensor([0, 1]))], (x, torch.tensor([1, 1])), SECOND)
    assert torch.equal(found[0], torch.zeros_like(x))


def test_weights_and_inputs_come_back_as_they_were():
    weights, inner, outer = problem()
    before = {name: value.clone() for name, value in weights.items()}
    hypergradient(smooth_loss, weights, inner, outer, SECOND)
    assert all(torch.equal(before[name], weights[name]) for name in before)
    assert not any(value.requires_grad for value in (*weights.values(), *(x for x, _ in inner)))


def test_a_truncation_to_nothing_is_refused():
    with pytest.raises(ValueError, match="truncate = 0: must be 1 or more"):
        Unroll(rate=0.1, truncate=0)


# Real exemplars: digits, and a network trained on them.


Digits = Callable[..., tuple[np.ndarray, np.ndarray]]


def network_of(classes: int, old: int = 0, *, cosine: bool = True) -> Network:
    config = ModelConfig(backbone="resnet8", input_size=8, channels=1)
    backbone = build(config, generator=torch.Generator().manual_seed(0))
    rows = torch.randn(classes, 128, generator=torch.Generator().manual_seed(1))
    zeros = torch.zeros(classes)
    head = (
        CosineHead(rows[:old], rows[old:], torch.tensor([8.0]))
        if cosine
        else LinearHead(rows[:old], rows[old:], zeros[:old], zeros[old:])
    )
    return Network(backbone, head).eval()


def given(
    digits: Digits, counts: Sequence[int], *, per_class: int = 4, old: int = 0, kept: Sequence[int] = (), **fields: Any
) -> Picked:
    """Classes with `counts` new examples each, after old ones with `kept` exemplars each; the first are picked."""
    parts = [(label, count, 0) for label, count in enumerate(kept)]
    parts += [(label, count, 100) for label, count in enumerate(counts) if count]
    drawn = [digits([label], count, skip) for label, count, skip in parts if count]
    x = torch.from_numpy(np.concatenate([own for own, _ in drawn]))
    y = torch.from_numpy(np.concatenate([own for _, own in drawn]))
    candidates = Candidates(x=x, y=y, kept_count=sum(kept))
    fresh = candidates.fresh_classes
    new = candidates.fresh
    memory = tuple(
        ((y == label) & (new == (label in fresh))).nonzero().squeeze(1)[:per_class] for label in range(len(counts))
    )
    defaults: dict[str, Any] = {
        "network": network_of(len(counts), old),
        "teacher": None,
        "candidates": candidates,
        "memory": memory,
        "fresh_classes": tuple(fresh),
        "augmentation": Augmentation(crops=True, flips=False),
        "generator": torch.Generator().manual_seed(0),
        "report": lambda *_: None,
    }
    return Picked(**defaults | fields)


def outer_loss(config: Mnemonics, picked: Picked, x: torch.Tensor) -> float:
    """The loss on the new examples of the network after the temporary model's steps on all exemplars `x`."""
    candidates = picked.candidates
    outer = candidates.x[candidates.fresh].float(), candidates.y[candidates.fresh]
    weights = {name: value.detach() for name, value in picked.network.named_parameters()}
    inner = [(x.float(), candidates.y[torch.cat(picked.memory)])] * config.unroll_steps
    unroll = Unroll(rate=config.inner_rate, truncate=1)
    return float(hypergradient(loss_of(picked.network), weights, inner, outer, unroll)[0])


@pytest.mark.parametrize(("order", "inner_rate"), [("second", 0.1), ("first", 0.02)])
def test_learnt_exemplars_teach_the_classes_better_than_picked_ones(digits: Digits, order: Any, inner_rate: float):
    picked = given(digits, [40, 40, 40], per_class=4)
    train(
        picked.network,
        TrainingSet(x=picked.candidates.x, y=picked.candidates.y, fresh=picked.candidates.fresh),
        [CrossEntropy()],
        Schedule(epochs=1, batch_size=32, learning_rate=0.02),
        augmentation=picked.augmentation,
        generator=picked.generator,
        report=picked.report,
    )
    config = Mnemonics(iterations=6, rate=10.0, batch_size=12, order=order, inner_rate=inner_rate, augment=False)
    made = config(picked)
    before = outer_loss(config, picked, picked.candidates.x[torch.cat(picked.memory)])
    after = outer_loss(config, picked, torch.cat([made[label].x for label in range(3)]))
    assert after < 0.8 * before


def test_the_network_is_left_bit_for_bit_as_it_was(digits: Digits):
    picked = given(digits, [0, 0, 10, 10], old=2, kept=[4, 4])
    before = {name: value.clone() for name, value in picked.network.state_dict().items()}
    QUICK(picked)
    after = picked.network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(module.training for module in picked.network.modules())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in picked.network.parameters())


def test_the_same_seed_makes_the_same_exemplars(digits: Digits):
    def make(seed: int) -> torch.Tensor:
        picked = given(digits, [0, 12, 12], old=1, kept=[6], generator=torch.Generator().manual_seed(seed))
        made = replace(QUICK, storage="float16", iterations=1)(picked)
        return torch.cat([made[label].x for label in sorted(made)])

    assert torch.equal(make(3), make(3))
    assert not torch.equal(make(3), make(4))


def test_keeping_the_graphs_makes_the_same_exemplars(digits: Digits):
    made = [replace(QUICK, checkpoint=checkpoint)(given(digits, [10, 10])) for checkpoint in (True, False)]
    for label in (0, 1):
        assert torch.allclose(made[0][label].x.float(), made[1][label].x.float(), atol=1)


def test_exemplars_are_whole_grey_levels_of_the_pictures_they_were_made_from(digits: Digits):
    picked = given(digits, [10, 10, 10])
    made = replace(QUICK, rate=300.0)(picked)
    assert sorted(made) == [0, 1, 2]
    for label, own in made.items():
        assert own.x.dtype == torch.uint8
        assert own.x.shape == (4, 8, 8, 1)
        assert torch.equal(own.source, picked.memory[label])
        assert not torch.equal(own.x, picked.candidates.x[own.source])
    # Pixels at either end of the range were pushed beyond it and came back to the end, not around it.
    ends = torch.cat([own.x for own in made.values()])
    assert ends.min() == 0
    assert ends.max() == 255


def test_bytes_are_the_rounded_pixels(digits: Digits):
    whole, fine = (replace(QUICK, storage=storage)(given(digits, [10, 10])) for storage in ("uint8", "float16"))
    for label, own in fine.items():
        assert own.x.dtype == torch.float16
        assert (own.x != own.x.round()).any()
        assert own.x.min() >= 0
        assert own.x.max() <= 255
        assert (whole[label].x.float() - own.x.float()).abs().max() <= 0.57


def test_exemplars_hardly_learnt_are_their_pictures_and_lose_no_grey_level(digits: Digits):
    picked = given(digits, [0, 8, 8], old=1, kept=[4])
    for label, own in replace(QUICK, rate=0.01)(picked).items():
        assert torch.equal(own.x, picked.candidates.x[picked.memory[label]])


def test_old_exemplars_are_adjusted_or_left_as_asked(digits: Digits):
    picked = given(digits, [0, 0, 10], old=2, kept=[4, 3])
    adjusted = QUICK(picked)
    assert sorted(adjusted) == [0, 1, 2]
    for label in (0, 1):
        changed = (adjusted[label].x != picked.candidates.x[picked.memory[label]]).flatten(1).any(1)
        assert changed.all()
    assert sorted(replace(QUICK, adjust=False)(picked)) == [2]


def test_a_class_with_one_old_exemplar_keeps_it(digits: Digits):
    picked = given(digits, [0, 0, 0, 6], old=3, kept=[1, 5, 0])
    assert sorted(QUICK(picked)) == [1, 3]


@pytest.mark.parametrize(
    ("counts", "kept"),
    [
        ([1], []),
        ([9], []),
        ([1, 1, 1], []),
        ([1, 60, 2], []),
        ([0, 3], [0]),
        ([0, 3], [1]),
        ([5, 3], [2]),
        ([0, 2, 30], [2, 9]),
    ],
)
def test_steps_of_any_shape_give_as_many_exemplars_as_were_picked(digits: Digits, counts: list[int], kept: list[int]):
    picked = given(digits, counts, kept=kept, old=len(kept), per_class=6)
    made = replace(QUICK, iterations=2)(picked)
    assert set(made) >= set(picked.fresh_classes)
    for label, own in made.items():
        assert len(own) == len(picked.memory[label])
        assert torch.equal(own.source, picked.memory[label])


def test_a_temporary_model_that_diverges_leaves_the_pictures_alone(digits: Digits):
    picked = given(digits, [6, 6])
    for label, own in replace(QUICK, inner_rate=1e30)(picked).items():
        assert torch.equal(own.x, picked.candidates.x[picked.memory[label]])


def test_a_memory_that_may_hold_nothing_gets_nothing(digits: Digits):
    assert QUICK(given(digits, [4, 4], per_class=0)) == {}


def test_exemplars_with_fractions_are_learnt_on(digits: Digits):
    picked = given(digits, [0, 8], old=1, kept=[4])
    halves = replace(picked.candidates, x=picked.candidates.x.half())
    made = QUICK(replace(picked, candidates=halves))
    assert {own.x.dtype for own in made.values()} == {torch.uint8}


def test_a_linear_head_and_mirrored_pictures_work_too(digits: Digits):
    network = network_of(2, cosine=False)
    picked = given(digits, [8, 8], network=network, augmentation=Augmentation(crops=True, flips=True))
    assert sorted(QUICK(picked)) == [0, 1]


def test_vectors_are_refused():
    config = ModelConfig(backbone="identity", embedding=4)
    rows = torch.zeros(2, 4)
    network = Network(build(config), LinearHead(rows[:0], rows, rows[:0, 0], rows[:, 0]))
    x, y = torch.zeros(4, 4), torch.tensor([0, 0, 1, 1])
    picked = Picked(
        network=network,
        teacher=None,
        candidates=Candidates(x=x, y=y, kept_count=0),
        memory=(torch.tensor([0]), torch.tensor([2])),
        fresh_classes=(0, 1),
        augmentation=Augmentation(crops=False, flips=False),
        generator=torch.Generator().manual_seed(0),
        report=lambda *_: None,
    )
    with pytest.raises(ValueError, match=r"images \[N, H, W, C\]; the examples are \[4, 4\]"):
        QUICK(picked)


def test_progress_is_told_to_the_end(digits: Digits):
    told: list[tuple[int, int, float]] = []
    picked = given(digits, [6, 6], report=lambda *told_now: told.append(told_now))
    replace(QUICK, iterations=12, unroll_steps=1)(picked)
    assert [(done, total) for done, total, _ in told] == [(10, 12), (12, 12)]
    assert all(loss > 0 for _, _, loss in told)


def test_pixels_are_prepared_as_for_serving(digits: Digits):
    picked = given(digits, [6])
    backbone = picked.network.backbone
    assert torch.equal(prepare(backbone, picked.candidates.x), backbone.prepare(picked.candidates.x))


def test_the_loss_keeps_double_precision(digits: Digits):
    picked = given(digits, [6, 6])
    network = picked.network.double()
    weights = {name: value.detach() for name, value in network.named_parameters()}
    loss = loss_of(network)(weights, picked.candidates.x.double(), picked.candidates.y)
    assert loss.dtype == torch.float64


def test_gradients_reach_the_pixels_of_moved_and_mirrored_exemplars(digits: Digits):
    x = given(digits, [6]).candidates.x.float().requires_grad_()
    moved = Augmentation(crops=True, flips=True).apply(x, torch.Generator().manual_seed(0))
    (gradient,) = torch.autograd.grad(moved.sum(), x)
    assert set(gradient.flatten().tolist()) == {0.0, 1.0}
