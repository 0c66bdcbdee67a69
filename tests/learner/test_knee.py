"""The schedule for fewer epochs: its rates, mirror images in turns, and the mean of the last weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from accrete_learner import methods
from accrete_learner.augmentation.augment import Augmentation
from accrete_learner.config import MethodConfig, TrainingConfig
from accrete_learner.method_names import available
from accrete_learner.training.loop import TrainingSet, _sgd
from accrete_learner.training.network import Network
from accrete_learner.training.schedule import Knee, Schedule
from accrete_learner.training.weight_average import WeightAverage
from tests.learner.test_train import bright_or_dark, make_network, run, state

pytestmark = pytest.mark.integration

PLAIN = Augmentation(crops=False, flips=False)


def knee(epochs: int, *, batch_size: int = 16, copies: int = 1) -> Knee:
    return Knee.of(Schedule(epochs=epochs, learning_rate=0.02, batch_size=batch_size, copies=copies))


def test_the_rate_rises_for_three_epochs_is_held_to_the_half_and_falls_to_nothing() -> None:
    schedule = Knee.of(Schedule(epochs=40, learning_rate=0.1, milestones=(20, 30)))
    rates = [schedule.rate(epoch) for epoch in (0, 1.5, 3, 10, 20, 25, 30, 35, 40)]
    assert rates == pytest.approx([0.25 / 300, 0.25 * 1.51 / 3, 0.25, 0.25, 0.25, 0.1875, 0.125, 0.0625, 0.0])


def test_a_short_training_warms_up_for_a_quarter_and_still_falls_to_nothing() -> None:
    schedule = Knee.of(Schedule(epochs=4, learning_rate=0.1))
    assert schedule.rate(0.5) < schedule.rate(1) == pytest.approx(0.25)
    assert schedule.rate(3.999) < 0.001
    assert all(Knee.of(Schedule(epochs=1)).rate(epoch / 10) > 0 for epoch in range(10))


def test_the_last_fifth_is_averaged_and_of_a_short_training_the_last_epoch_or_nothing() -> None:
    def averaged(epochs: int) -> list[int]:
        return [epoch for epoch in range(epochs) if Knee.of(Schedule(epochs=epochs)).averages(epoch)]

    assert averaged(40) == list(range(32, 40))
    assert averaged(5) == [4]
    assert averaged(4) == []
    assert not any(Schedule(epochs=40).averages(epoch) for epoch in range(40))


def test_epochs_batches_penalty_copies_and_noise_stay() -> None:
    schedule = Schedule(epochs=12, weight_decay=1e-3, batch_size=64, copies=3, gradient_noise=0.3, momentum=0.8)
    found = Knee.of(schedule)
    for name in ("epochs", "weight_decay", "batch_size", "copies", "gradient_noise", "momentum"):
        assert getattr(found, name) == getattr(schedule, name)


@pytest.mark.parametrize("name", available())
def test_every_method_takes_it_in_both_trainings_and_rebalances_as_before(name: str) -> None:
    numbers = {"base_epochs": 40, "epochs": 20}
    own = methods.configured(MethodConfig(name=name), TrainingConfig(**numbers))  # type: ignore[arg-type]
    found = methods.configured(MethodConfig(name=name), TrainingConfig(schedule="knee", **numbers))  # type: ignore[arg-type]
    assert (found.base, found.increment) == (Knee.of(own.base), Knee.of(own.increment))
    assert (found.base.epochs, found.increment.epochs) == (40, 20)
    assert found.rebalance == own.rebalance


def test_its_momentum_is_nesterovs_and_the_papers_is_not() -> None:
    assert _sgd(make_network(), knee(2)).nesterov
    assert not _sgd(make_network(), Schedule(epochs=2)).nesterov


def halves(count: int) -> TrainingSet:
    """Image i is as dark as i on the left and white on the right."""
    x = torch.full((count, 8, 8, 1), 255, dtype=torch.uint8)
    x[:, :, :4] = torch.arange(count, dtype=torch.uint8)[:, None, None, None]
    return TrainingSet(x=x, y=torch.arange(count) % 2, fresh=torch.ones(count) > 0)


def orientations(network: Network, schedule: Schedule, *, passes: int, count: int = 20) -> Tensor:
    """Return bool [passes, count], whether each pass mirrored each image."""
    seen: list[tuple[int, bool]] = []

    def note(_: nn.Module, inputs: tuple[Tensor]) -> None:
        pixels = ((inputs[0] - network.backbone.shift) / network.backbone.scale)[:, 0]
        number = pixels.amin(dim=(1, 2)).round().int()
        seen.extend(zip(number.tolist(), (pixels[:, 0, 0] > pixels[:, 0, -1]).tolist(), strict=True))

    handle = network.backbone.network.register_forward_pre_hook(note)
    run(network, halves(count), schedule, augmentation=Augmentation(crops=False, flips=True))
    handle.remove()
    turns: list[list[bool]] = [[] for _ in range(count)]
    for number, mirrored in seen[: passes * count]:
        turns[number].append(mirrored)
    return torch.tensor(turns).T


def test_an_example_is_mirrored_in_every_other_epoch() -> None:
    found = orientations(make_network(), knee(4), passes=4)
    assert 0 < found[0].sum() < 20
    assert all(torch.equal(found[turn], found[0] ^ (turn % 2 == 1)) for turn in range(4))
    drawn = orientations(make_network(), Schedule(epochs=4, batch_size=16), passes=4)
    assert not torch.equal(drawn[1], ~drawn[0])


@pytest.mark.parametrize("copies", [2, 3])
def test_the_copies_of_an_epoch_are_mirrored_in_turns_too(copies: int) -> None:
    found = orientations(make_network(), knee(2, copies=copies), passes=2 * copies)
    first = found[:copies].sum(dim=0)
    both = found.sum(dim=0)
    assert set(first.tolist()) <= {copies // 2, -(-copies // 2)}
    assert set(both.tolist()) == {copies}


def test_it_ends_with_the_mean_of_the_weights_after_the_updates_of_the_last_fifth() -> None:
    network, after = make_network(), []

    def constrain() -> None:
        after.append([parameter.detach().clone() for parameter in network.parameters()])

    network.head.constrain = constrain  # type: ignore[method-assign]
    run(network, bright_or_dark(40), knee(10))
    assert len(after) == 30
    for number, parameter in enumerate(network.parameters()):
        mean = torch.stack([weights[number] for weights in after[24:]]).mean(dim=0)
        assert torch.allclose(parameter, mean, atol=1e-6)
        assert number or not torch.allclose(parameter, after[-1][number], atol=1e-6)


def test_batch_norm_has_the_statistics_of_the_mean_weights() -> None:
    network, data = make_network(), bright_or_dark(40)
    run(network, data, knee(10, batch_size=40), augmentation=PLAIN)
    norm = next(module for module in network.modules() if isinstance(module, nn.BatchNorm2d))
    entered: list[Tensor] = []
    norm.register_forward_pre_hook(lambda _, inputs: entered.append(inputs[0]))
    with torch.no_grad():
        network(network.backbone.prepare(data.x))
    assert torch.allclose(norm.running_mean, entered[0].mean(dim=(0, 2, 3)), atol=1e-4)  # type: ignore[arg-type]
    assert torch.allclose(norm.running_var, entered[0].var(dim=(0, 2, 3)), rtol=1e-3)  # type: ignore[arg-type]
    assert norm.momentum == 0.1


@pytest.mark.parametrize("options", [{"train_backbone": False}, {"statistics": False}])
def test_statistics_that_are_to_stay_do(options: dict[str, bool]) -> None:
    network = make_network()
    before = state(network)
    run(network, bright_or_dark(40), knee(10), **options)  # type: ignore[arg-type]
    after = state(network)
    kept = "backbone." if "train_backbone" in options else "running"
    assert all(torch.equal(before[name], after[name]) for name in before if kept in name)
    assert not torch.equal(before["head.new_rows"], after["head.new_rows"])


def test_a_weight_that_does_not_change_keeps_its_bits_in_the_mean() -> None:
    layer = nn.Linear(50, 50)
    before = state(layer)  # type: ignore[arg-type]
    average = WeightAverage(layer)
    for _ in range(7):
        average.add()
    average.apply()
    assert all(torch.equal(before[name], value) for name, value in layer.state_dict().items())
