"""Rebalancing: class-balanced fine-tuning trains the whole head, and nothing but the head."""

import torch

from accrete_learner import augment, backbones, heads
from accrete_learner.config import NetworkConfig
from accrete_learner.heads import HeadChoice
from accrete_learner.network import Network
from accrete_learner.rebalance import BalancedFineTuning, NoRebalance, Rebalance
from accrete_learner.schedule import Schedule
from accrete_learner.train import TrainingSet


def make_network() -> Network:
    generator = torch.Generator().manual_seed(0)
    backbone = backbones.build(NetworkConfig(backbone="resnet8", input_size=8, channels=1), generator=generator)
    choice = HeadChoice(kind="cosine", freeze_old=True)
    sizes = {"feature_length": backbone.feature_length, "generator": generator}
    parent = heads.grow(choice, None, class_count=2, **sizes).export()  # type: ignore[arg-type]
    return Network(backbone, heads.grow(choice, parent, class_count=3, **sizes)).eval()  # type: ignore[arg-type]


def balanced() -> TrainingSet:
    generator = torch.Generator().manual_seed(1)
    x = torch.randint(256, (9, 8, 8, 1), generator=generator, dtype=torch.uint8)
    return TrainingSet(x=x, y=torch.arange(3).repeat(3), fresh=torch.zeros(9, dtype=torch.bool))


def rebalance(choice: Rebalance, network: Network) -> list[float]:
    return choice(
        network,
        balanced,
        augmentation=augment.build("none"),
        generator=torch.Generator().manual_seed(2),
        report=lambda done, total, loss: None,
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
