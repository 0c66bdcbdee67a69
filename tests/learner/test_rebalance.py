"""Rebalancing: each way corrects what its paper corrects, and leaves everything else alone."""

from typing import Literal

import pytest
import torch

from accrete_learner import backbones, heads
from accrete_learner.augmentation import augment
from accrete_learner.config import ModelConfig
from accrete_learner.heads import HeadChoice
from accrete_learner.losses import BlockDistillation, CrossEntropy
from accrete_learner.rebalance import (
    BalancedFineTuning,
    BiasCorrection,
    InSequence,
    NoRebalance,
    Rebalance,
    Trained,
    WeightAligning,
)
from accrete_learner.rebalance.bias_correction import fit
from accrete_learner.training.loop import TrainingSet
from accrete_learner.training.network import Network
from accrete_learner.training.schedule import Schedule


def make_network(kind: Literal["linear", "cosine"] = "cosine") -> Network:
    generator = torch.Generator().manual_seed(0)
    backbone = backbones.build(ModelConfig(backbone="resnet8", input_size=8, channels=1), generator=generator)
    choice = HeadChoice(kind=kind, freeze_old=True)
    sizes = {"feature_length": backbone.feature_length, "generator": generator}
    parent = heads.grow(choice, None, class_count=2, **sizes).export()  # type: ignore[arg-type]
    return Network(backbone, heads.grow(choice, parent, class_count=3, **sizes)).eval()  # type: ignore[arg-type]


def balanced() -> TrainingSet:
    generator = torch.Generator().manual_seed(1)
    x = torch.randint(256, (9, 8, 8, 1), generator=generator, dtype=torch.uint8)
    return TrainingSet(x=x, y=torch.arange(3).repeat(3), fresh=torch.zeros(9, dtype=torch.bool))


def rebalance(
    choice: Rebalance, network: Network, *, teacher: Network | None = None, calibration_split: TrainingSet | None = None
) -> list[float]:
    return choice(
        Trained(
            network=network,
            teacher=teacher or network.teacher(),
            balanced=balanced,
            calibration_split=calibration_split,
            augmentation=augment.build("none"),
            generator=torch.Generator().manual_seed(2),
            report=lambda done, total, loss: None,
        )
    )


def test_class_balanced_fine_tuning_leaves_the_backbone_and_its_statistics_alone() -> None:
    network = make_network()
    before = {name: tensor.clone() for name, tensor in network.backbone.state_dict().items()}
    rebalance(BalancedFineTuning(), network)
    after = network.backbone.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(parameter.requires_grad for parameter in network.backbone.parameters())


def test_class_balanced_fine_tuning_moves_the_frozen_old_rows_too_and_lowers_the_loss() -> None:
    network = make_network()
    before = network.head.weight.detach().clone()
    losses = rebalance(BalancedFineTuning(schedule=Schedule(epochs=20, learning_rate=0.1)), network)
    assert (network.head.weight != before).any(dim=1).all()
    assert losses[-1] < losses[0]


def test_no_rebalancing_changes_nothing_and_asks_for_no_examples() -> None:
    network = make_network()
    before = network.head.weight.detach().clone()
    assert rebalance(NoRebalance(), network) == []
    assert torch.equal(network.head.weight, before)


def test_fine_tuning_shortens_with_the_training_but_never_to_nothing() -> None:
    resized = BalancedFineTuning().resized(epochs=0.25, learning_rate=0.5, batch_size=32)
    assert (resized.schedule.epochs, resized.schedule.learning_rate, resized.schedule.batch_size) == (5, 0.005, 32)
    assert resized.schedule.milestones == (2.5,)
    assert BalancedFineTuning().resized(epochs=0.001, learning_rate=1.0, batch_size=32).schedule.epochs == 1


@pytest.mark.parametrize("statistics", [True, False])
def test_fine_tuning_trains_the_backbone_too_where_it_is_told_to(statistics: bool) -> None:
    network = make_network()
    before = {name: tensor.clone() for name, tensor in network.backbone.state_dict().items()}
    rebalance(
        BalancedFineTuning(backbone=True, statistics=statistics, schedule=Schedule(epochs=1, learning_rate=0.1)),
        network,
    )
    after = network.backbone.state_dict()
    assert not torch.equal(before["network.conv1.weight"], after["network.conv1.weight"])
    assert torch.equal(before["network.bn1.running_mean"], after["network.bn1.running_mean"]) != statistics


def test_protecting_the_new_classes_distils_them_from_the_network_as_training_left_it() -> None:
    schedule = Schedule(epochs=30, learning_rate=0.1)
    terms = (CrossEntropy(), BlockDistillation(weight=50.0))
    before = make_network("linear")
    moved = {}
    for protects in (False, True):
        network = make_network("linear")
        # Two new classes, so that their block has a direction to protect.
        network.head = heads.LinearHead(before.head.weight[:1], before.head.weight[1:], torch.zeros(1), torch.zeros(2))
        teacher = Network(network.backbone, heads.restore({"weight": before.head.weight[:1], "bias": torch.zeros(1)}))
        own = network.head.weight.detach().clone()
        choice = BalancedFineTuning(schedule=schedule, terms=terms, protect_new=protects)
        rebalance(choice, network, teacher=teacher.teacher())
        difference = (network.head.weight - own)[1:]
        moved[protects] = float((difference[0] - difference[1]).norm().detach())
    assert moved[True] < moved[False] / 2


def test_bias_correction_finds_the_numbers_that_were_hidden_in_the_scores() -> None:
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(600) % 4
    honest = torch.randn(600, 4, generator=generator) + 2 * torch.eye(4)[labels]
    biased = torch.cat((honest[:, :2], (honest[:, 2:] + 1.5) / 0.5), dim=1)
    gain, offset, loss = fit(biased, labels, 2, iterations=50)
    reference_gain, reference_offset, reference_loss = fit(honest, labels, 2, iterations=50)
    torch.testing.assert_close(gain, 0.5 * reference_gain, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(offset, reference_offset - 1.5 * reference_gain, rtol=1e-3, atol=1e-3)
    assert loss <= reference_loss + 1e-4


def calibration_split() -> TrainingSet:
    data = balanced()
    return TrainingSet(x=data.x, y=data.y, fresh=data.fresh)


def test_bias_correction_changes_the_new_classes_scores_alone_and_fits_better() -> None:
    kinds: tuple[Literal["linear", "cosine"], ...] = ("linear", "cosine")
    for kind in kinds:
        network = make_network(kind)
        data = calibration_split()
        with torch.no_grad():
            features = network.backbone(data.x)
            before = network.head(features)
            losses = rebalance(BiasCorrection(), network, calibration_split=data)
            after = network.head(features)
        torch.testing.assert_close(after[:, :2], before[:, :2])
        assert not torch.equal(after[:, 2], before[:, 2])
        assert losses[0] < float(torch.nn.functional.cross_entropy(before, data.y))
        restored = heads.restore(network.head.export())
        torch.testing.assert_close(restored(features), after)
        grown = heads.grow(
            HeadChoice(kind=kind),
            network.head.export(),
            feature_length=features.shape[1],
            class_count=4,
            generator=torch.Generator().manual_seed(3),
        )
        torch.testing.assert_close(grown(features)[:, :3], after)


def test_bias_correction_without_a_calibration_split_does_nothing() -> None:
    network = make_network("linear")
    before = network.head.weight.detach().clone()
    assert rebalance(BiasCorrection(), network) == []
    assert torch.equal(network.head.weight, before)


def test_weight_aligning_makes_new_rows_as_long_as_old_ones_and_leaves_cosine_heads_alone() -> None:
    linear, cosine = make_network("linear"), make_network("cosine")
    with torch.no_grad():
        linear.head.new_rows.mul_(7)
    direction = torch.nn.functional.normalize(linear.head.new_rows, dim=1).clone()
    rebalance(WeightAligning(), linear)
    lengths = linear.head.weight.norm(dim=1)
    torch.testing.assert_close(lengths[2:].mean(), lengths[:2].mean())
    torch.testing.assert_close(torch.nn.functional.normalize(linear.head.new_rows, dim=1), direction)
    before = cosine.head.weight.detach().clone()
    rebalance(WeightAligning(), cosine)
    assert torch.equal(cosine.head.weight, before)


def test_a_sequence_needs_and_does_what_its_parts_do() -> None:
    both = InSequence(parts=(BalancedFineTuning(), BiasCorrection()))
    assert both.needs_exemplars
    assert both.calibration_share == BiasCorrection().calibration_share
    shorter = both.resized(epochs=0.5, learning_rate=1.0, batch_size=8, copies=2)
    assert isinstance(shorter.parts[0], BalancedFineTuning)
    assert (shorter.parts[0].schedule.epochs, shorter.parts[0].schedule.copies) == (10, 2)
    assert len(rebalance(shorter, make_network("linear"), calibration_split=calibration_split())) == 11
