"""The closed form: one solution whatever the order, the joint one, and examples that can be taken out again."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from accrete_learner import backbones, heads
from accrete_learner.backbones.whitening import Whitening
from accrete_learner.config import ModelConfig
from accrete_learner.heads import RandomFeaturesHead
from accrete_learner.heads.closed_form import ClosedForm, keep_rows
from accrete_learner.heads.dual_stream import DualStream
from accrete_learner.heads.ridge import Ridge, Statistics
from accrete_learner.method_step import StepInputs, StepOutcome, run_method_step
from accrete_learner.methods.ranpac import RANPAC
from benchmarks.digits import scans

RIDGE = Ridge(width=50, penalty=2.0)


def data(count: int = 60, classes: int = 5, length: int = 8) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    y = torch.arange(count) % classes
    x = torch.randn(count, length, generator=generator) + 2 * torch.eye(classes, length)[y]
    return x, y


def learn(ridge: Ridge, parts: list[tuple[Tensor, Tensor]], seed: int = 1) -> RandomFeaturesHead:
    """Parts of examples in turn, whose classes are numbered as they come."""
    head, statistics, exported = None, None, None
    for x, y in parts:
        count = max(int(y.max()) + 1, 0 if exported is None else len(exported["weight"]))
        head, statistics = ridge.fit(
            x, y, count, parent_head=exported, statistics=statistics, generator=torch.Generator().manual_seed(seed)
        )
        exported = head.export()
    assert head is not None
    return head


def sums(x: Tensor, y: Tensor, classes: int = 5) -> tuple[Statistics, Tensor]:
    """Of the examples, and their random features."""
    projection = RIDGE.draw(x.shape[1], torch.Generator().manual_seed(1))
    empty = Statistics.empty(RIDGE.width, classes, x.device)
    return empty.with_examples(x, y, projection), (x.double() @ projection.double()).relu()


def run_steps(parts: list[tuple[Tensor, Tensor]]) -> StepOutcome:
    """Whole steps of RanPAC on embeddings, as a trainer runs them: each with a generator of its own seed."""
    method = replace(RANPAC, closed_form=RIDGE, augmentation="none")
    outcome, parent, count = None, None, 0
    for version, (x, y) in enumerate(parts, start=1):
        count = max(count, int(y.max()) + 1)
        inputs = StepInputs(
            backbone=backbones.build(ModelConfig(backbone="identity", embedding=x.shape[1])),
            parent_head=parent,
            class_count=count,
            new_x=x,
            new_y=y,
            exemplar_x=x[:0],
            exemplar_y=y[:0],
            per_class=0,
            pretrained=True,
            statistics=None if outcome is None else outcome.statistics,
        )
        generator = torch.Generator().manual_seed(version)
        outcome = run_method_step(inputs, method, progress=lambda *_: None, generator=generator)
        parent = {**outcome.head.export(), "means": outcome.means}
    assert outcome is not None
    return outcome


def test_the_solution_is_that_of_the_normal_equations_to_the_last_digits() -> None:
    x, y = data()
    statistics, expanded = sums(x, y)
    design = np.c_[expanded.numpy(), np.ones(len(x))]
    penalty = np.diag([2.0 * (expanded**2).mean().item()] * RIDGE.width + [0.0])
    expected = np.linalg.solve(design.T @ design + penalty, design.T @ F.one_hot(y).numpy())
    np.testing.assert_allclose(statistics.weights(2.0).T, expected, rtol=1e-7, atol=1e-10)


def test_whole_steps_give_one_head_however_many_classes_the_first_has() -> None:
    x, y = data()
    two = y < 2
    joint, parted = run_steps([(x, y)]), run_steps([(x[two], y[two]), (x[~two], y[~two])])
    own, other = joint.head.export(), parted.head.export()
    assert torch.equal(own["projection"], other["projection"])
    torch.testing.assert_close(parted.statistics["gram"], joint.statistics["gram"], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(other["weight"], own["weight"], rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(other["bias"], own["bias"], rtol=1e-6, atol=1e-7)


def test_the_projection_leaves_the_generator_where_it_was() -> None:
    generator = torch.Generator().manual_seed(1)
    before = generator.get_state()
    RIDGE.draw(8, generator)
    assert torch.equal(generator.get_state(), before)


def test_the_chosen_penalty_has_the_least_generalised_cross_validation_error() -> None:
    x, y = data()
    statistics, expanded = sums(x, y)
    design, target = np.c_[expanded.numpy(), np.ones(len(x))], F.one_hot(y).numpy()
    unit = np.diag([(expanded**2).mean().item()] * RIDGE.width + [0.0])

    def error(penalty: float) -> float:
        hat = design @ np.linalg.solve(design.T @ design + penalty * unit, design.T)
        return float(((target - hat @ target) ** 2).sum() / (len(x) - np.trace(hat)) ** 2)

    grid = [10.0**power for power in range(-2, 5)]
    assert statistics.chosen_penalty() == min(grid, key=error)


def test_a_chosen_penalty_does_not_depend_on_the_order_either() -> None:
    x, y = data()
    ridge = Ridge(width=50, penalty=None)
    parts = [(x[y == label], y[y == label]) for label in range(5)]
    torch.testing.assert_close(learn(ridge, parts).weight, learn(ridge, [(x, y)]).weight, rtol=1e-6, atol=1e-7)


def test_the_head_is_the_joint_ridge_solution() -> None:
    x, y = data()
    head = learn(RIDGE, [(x, y)])
    expanded = (x @ head.projection).relu().double().numpy()
    penalty = RIDGE.penalty * (expanded**2).mean()
    from sklearn.linear_model import Ridge as Peer  # two seconds, for this test alone

    peer = Peer(alpha=penalty, solver="cholesky").fit(expanded, F.one_hot(y).numpy())
    np.testing.assert_allclose(head.weight.detach().numpy(), peer.coef_, rtol=2e-3, atol=2e-5)
    np.testing.assert_allclose(head.bias.numpy(), peer.intercept_, rtol=2e-3, atol=2e-5)


def test_steps_come_to_the_joint_solution_however_the_examples_are_spread_over_them() -> None:
    x, y = data()
    joint = learn(RIDGE, [(x, y)])
    two, mixed = y < 2, torch.arange(len(y)) % 3
    by_class = learn(RIDGE, [(x[two], y[two]), (x[~two], y[~two])])
    repeated = learn(RIDGE, [(x[mixed == part], y[mixed == part]) for part in range(3)])
    for other in (by_class, repeated):
        torch.testing.assert_close(other.weight, joint.weight, rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(other.bias, joint.bias, rtol=1e-6, atol=1e-7)


def test_classes_may_arrive_in_any_order() -> None:
    x, y = data()
    order = torch.tensor([3, 0, 4, 2, 1])
    place = order.argsort()
    forwards = learn(RIDGE, [(x[y == label], y[y == label]) for label in range(5)])
    shuffled = learn(RIDGE, [(x[y == label], place[y[y == label]]) for label in order.tolist()])
    torch.testing.assert_close(shuffled.weight[place], forwards.weight, rtol=1e-6, atol=1e-7)


def test_an_example_taken_out_leaves_no_trace() -> None:
    x, y = data()
    projection = RIDGE.draw(x.shape[1], torch.Generator().manual_seed(1))
    empty = Statistics.empty(50, 5, x.device)
    stayed = torch.arange(len(y)) % 4 > 0
    without = empty.with_examples(x[stayed], y[stayed], projection)
    removed = empty.with_examples(x, y, projection).without_examples(x[~stayed], y[~stayed], projection)
    torch.testing.assert_close(removed.gram, without.gram, rtol=1e-11, atol=1e-9)
    torch.testing.assert_close(removed.weights(2.0), without.weights(2.0), rtol=1e-8, atol=1e-10)


def test_the_features_own_length_does_not_matter() -> None:
    x, y = data()
    own, long = learn(RIDGE, [(x, y)]), learn(RIDGE, [(1000 * x, y)])
    torch.testing.assert_close(own(x), long(1000 * x), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("counts", [(1,), (1, 1), (40, 1), (3, 0, 2)])
def test_any_number_of_examples_a_class_gives_finite_scores(counts: tuple[int, ...]) -> None:
    y = torch.tensor([label for label, count in enumerate(counts) for _ in range(count)])
    x = torch.randn(len(y), 8, generator=torch.Generator().manual_seed(1))
    for ridge in (RIDGE, Ridge(width=50, penalty=None)):
        head = learn(ridge, [(x, y)])
        assert head(x).shape == (len(y), len(counts))
        assert torch.isfinite(head(x)).all()


def test_features_that_are_all_0_are_scored_by_the_classes_shares() -> None:
    head = learn(RIDGE, [(torch.zeros(4, 8), torch.tensor([0, 0, 0, 1]))])
    torch.testing.assert_close(head(torch.zeros(1, 8)), RIDGE.scale * torch.tensor([[0.75, 0.25]]))


def test_sums_without_an_example_have_no_solution() -> None:
    x, y = data()
    projection = RIDGE.draw(x.shape[1], torch.Generator().manual_seed(1))
    nothing = sums(x, y)[0].without_examples(x, y, projection)
    with pytest.raises(ValueError, match="there is no example"):
        nothing.weights(2.0)


def test_sums_of_another_width_than_the_projection_are_refused() -> None:
    x, y = data()
    head, statistics = RIDGE.fit(x, y, 5, parent_head=None, statistics=None, generator=torch.Generator())
    narrow = {"gram": statistics["gram"][1:, 1:], "sums": statistics["sums"][:, 1:]}
    with pytest.raises(ValueError, match="sums of 49 features, projection to 50"):
        RIDGE.fit(x, y, 5, parent_head=head.export(), statistics=narrow, generator=torch.Generator())


@pytest.mark.parametrize("field", ["width", "penalty", "scale"])
def test_a_ridge_of_nothing_is_refused(field: str) -> None:
    with pytest.raises(ValueError, match=f"{field} = 0"):
        Ridge(**{field: 0})


def test_features_that_are_not_finite_are_refused() -> None:
    x, y = data()
    x[3, 2] = torch.inf
    with pytest.raises(ValueError, match="no ridge solution"):
        learn(RIDGE, [(x, y)])


def test_class_means_are_of_the_steps_examples_whatever_their_order() -> None:
    x, y = data()
    parts = [(x[y < 3], y[y < 3]), (x[y >= 3], y[y >= 3])]
    wanted = F.normalize(torch.stack([F.normalize(x[y == label]).mean(dim=0) for label in range(5)]))
    torch.testing.assert_close(run_steps(parts).means, wanted)


@pytest.mark.parametrize("closed_form", [RIDGE, DualStream(main=RIDGE)])
def test_whitened_features_give_the_head_that_standardised_numbers_give(closed_form: ClosedForm) -> None:
    x, y = data()
    whitening = Whitening.of(x, y, 6)
    whitened = whitening(x)
    answers = []
    for features, unwhitening in ((whitened @ whitening.unwhitening, None), (whitened, whitening.unwhitening)):
        exported, statistics = None, None
        for count, part in ((3, y < 3), (5, y >= 3)):
            head, statistics = closed_form.fit(
                features[part],
                y[part],
                count,
                parent_head=exported,
                statistics=statistics,
                generator=torch.Generator().manual_seed(1),
                unwhitening=unwhitening,
            )
            exported = head.export()
        answers.append(head(features))
    torch.testing.assert_close(answers[1], answers[0], rtol=1e-3, atol=1e-3)


def test_a_dropped_class_gives_its_place_to_the_next() -> None:
    x, y = data()
    head, statistics = RIDGE.fit(x, y, 5, parent_head=None, statistics=None, generator=torch.Generator())
    kept = keep_rows(statistics, [0, 1, 3, 4])
    torch.testing.assert_close(kept["sums"][2], statistics["sums"][3])
    torch.testing.assert_close(kept["gram"], statistics["gram"])


def test_an_exported_head_comes_back_the_same() -> None:
    x, y = data()
    head = learn(RIDGE, [(x, y)])
    again = heads.restore(head.export())
    assert isinstance(again, RandomFeaturesHead)
    torch.testing.assert_close(again(x), head(x))


def test_five_steps_on_digits_do_far_better_than_the_nearest_mean() -> None:
    images, target = scans()
    x, y = torch.from_numpy(images).reshape(-1, 64) * (16 / 255), torch.from_numpy(target)
    test = torch.arange(len(y)) % 3 == 0
    train_x, train_y = x[~test], y[~test]
    steps = [(train_y == 2 * step) | (train_y == 2 * step + 1) for step in range(5)]
    head = learn(Ridge(width=500), [(train_x[own], train_y[own]) for own in steps])
    means = torch.stack([train_x[train_y == label].mean(0) for label in range(10)])
    ridge = (head(x[test]).argmax(1) == y[test]).float().mean()
    nearest = (torch.cdist(x[test], means).argmin(1) == y[test]).float().mean()
    assert ridge > 0.95
    assert ridge > nearest + 0.03
