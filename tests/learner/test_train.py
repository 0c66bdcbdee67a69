"""The loop that trains: batches, schedule, what moves and what stays, and what it refuses.

Shapes: 8 x 8 grey images.
"""

import math

import pytest
import torch

from accrete_learner import backbones, heads
from accrete_learner.augmentation import augment
from accrete_learner.config import ModelConfig
from accrete_learner.heads import HeadChoice
from accrete_learner.losses import CrossEntropy, LessForget, Term
from accrete_learner.training.loop import TrainingDivergedError, TrainingSet, epoch_batches, train
from accrete_learner.training.network import Network
from accrete_learner.training.schedule import Schedule

pytestmark = pytest.mark.integration

NETWORK = ModelConfig(backbone="resnet8", input_size=8, channels=1)


def make_network(config: ModelConfig = NETWORK, *, autocast: bool = False) -> Network:
    generator = torch.Generator().manual_seed(0)
    backbone = backbones.build(config, generator=generator)
    length = backbone.feature_length
    head = heads.grow(HeadChoice(), None, feature_length=length, class_count=2, generator=generator)
    return Network(backbone, head, autocast=autocast)


def bright_or_dark(count: int) -> TrainingSet:
    generator = torch.Generator().manual_seed(1)
    y = torch.arange(count) % 2
    noise = torch.randint(100, (count, 8, 8, 1), generator=generator)
    return TrainingSet(x=(noise + 150 * y[:, None, None, None]).to(torch.uint8), y=y, fresh=torch.ones(count) > 0)


def run(
    network: Network,
    data: TrainingSet,
    schedule: Schedule,
    terms: tuple[Term, ...] = (CrossEntropy(),),
    **options: object,
) -> list[float]:
    values: dict[str, object] = {
        "augmentation": augment.build("crop"),
        "generator": torch.Generator().manual_seed(2),
        "report": lambda done, total, loss: None,
    }
    return train(network, data, terms, schedule, **(values | options))  # type: ignore[arg-type]


def state(network: Network) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


@pytest.mark.parametrize("count", [1, 2, 3, 5, 31, 32, 33, 64, 65, 130])
@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_an_epoch_sees_every_example_once_in_batches_that_batch_norm_can_take(count: int, batch_size: int) -> None:
    batches = list(epoch_batches(count, batch_size, torch.Generator().manual_seed(0)))
    seen = torch.cat(batches).tolist()
    assert sorted(seen) == (list(range(count)) if count > 1 else [0, 0])
    sizes = [len(batch) for batch in batches]
    assert min(sizes) >= 2
    assert max(sizes) <= max(3, batch_size)
    assert max(sizes) - min(sizes) <= 1


def test_an_epochs_order_comes_from_the_generator() -> None:
    def order(seed: int) -> list[int]:
        return torch.cat(list(epoch_batches(50, 8, torch.Generator().manual_seed(seed)))).tolist()

    assert order(0) == order(0)
    assert order(0) != order(1)


def test_training_lowers_the_loss_and_learns_the_classes() -> None:
    network, data = make_network(), bright_or_dark(40)
    losses = run(network, data, Schedule(epochs=8, learning_rate=0.05, batch_size=16))
    assert len(losses) == 8
    assert losses[-1] < losses[0] / 2
    _, scores = network(network.backbone.prepare(data.x))
    assert (scores.argmax(1) == data.y).float().mean() > 0.95


def test_training_is_the_same_for_the_same_seed() -> None:
    schedule = Schedule(epochs=2, batch_size=16)
    first, second = make_network(), make_network()
    assert run(first, bright_or_dark(40), schedule) == run(second, bright_or_dark(40), schedule)
    assert all(torch.equal(state(first)[name], state(second)[name]) for name in state(first))


def test_progress_is_reported_once_an_epoch_with_its_loss() -> None:
    seen: list[tuple[int, int, float]] = []
    losses = run(
        make_network(),
        bright_or_dark(8),
        Schedule(epochs=3),
        report=lambda done, total, loss: seen.append((done, total, loss)),
    )
    assert seen == [(epoch + 1, 3, loss) for epoch, loss in enumerate(losses)]


def test_epochs_that_do_not_fit_are_left_out_and_said() -> None:
    notes: list[str] = []
    schedule = Schedule(epochs=100_000, batch_size=8)
    losses = run(make_network(), bright_or_dark(64), schedule, seconds=0.5, note=notes.append)
    assert 1 <= len(losses) < 100_000
    (note,) = notes
    assert note.startswith("100000 epochs would take ")
    assert note.endswith(f"; {len(losses)} fit 0 s")


def test_the_network_comes_back_in_evaluation_mode() -> None:
    network = make_network()
    run(network, bright_or_dark(8), Schedule(epochs=1))
    assert not any(module.training for module in network.modules())


def test_a_backbone_that_is_not_to_train_keeps_weights_and_statistics() -> None:
    network = make_network()
    before = state(network)
    run(network, bright_or_dark(8), Schedule(epochs=1), train_backbone=False)
    after = state(network)
    assert all(torch.equal(before[name], after[name]) for name in before if name.startswith("backbone."))
    assert not torch.equal(before["head.new_rows"], after["head.new_rows"])


def test_a_backbone_can_train_with_the_statistics_that_it_serves_with() -> None:
    network = make_network()
    before = state(network)
    run(network, bright_or_dark(8), Schedule(epochs=1), statistics=False)
    changed = {name for name, tensor in state(network).items() if not torch.equal(before[name], tensor)}
    assert any(name.startswith("backbone.") for name in changed)
    assert not any("running" in name for name in changed)


def test_a_teacher_is_not_changed_by_training() -> None:
    network = make_network()
    network.head = heads.restore(network.head.export())
    teacher = network.teacher()
    before = state(teacher)
    run(network, bright_or_dark(16), Schedule(epochs=2), (CrossEntropy(), LessForget()), teacher=teacher)
    after = state(teacher)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(module.training for module in teacher.modules())
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_a_single_example_trains() -> None:
    losses = run(make_network(), bright_or_dark(1), Schedule(epochs=2, batch_size=1))
    assert all(math.isfinite(loss) for loss in losses)


def test_vectors_train_as_they_are() -> None:
    network = make_network(ModelConfig(backbone="identity", embedding=4))
    y = torch.arange(20) % 2
    x = torch.randn(20, 4, generator=torch.Generator().manual_seed(3)) + 4 * y[:, None]
    data = TrainingSet(x=x, y=y, fresh=torch.ones(20) > 0)
    losses = run(network, data, Schedule(epochs=10), augmentation=augment.build("auto"))
    assert losses[-1] < losses[0]


def test_bfloat16_leaves_weights_features_and_scores_in_float32() -> None:
    network, data = make_network(autocast=True), bright_or_dark(16)
    losses = run(network, data, Schedule(epochs=2))
    features, scores = network(network.backbone.prepare(data.x))
    assert all(math.isfinite(loss) for loss in losses)
    assert {features.dtype, scores.dtype} | {value.dtype for value in network.parameters()} == {torch.float32}


def test_a_loss_that_stops_being_a_number_ends_the_run() -> None:
    with pytest.raises(TrainingDivergedError, match="learning rate"):
        run(make_network(), bright_or_dark(16), Schedule(epochs=5, learning_rate=1e30))


def test_nothing_to_train_on_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one example"):
        run(make_network(), bright_or_dark(0), Schedule(epochs=1))


def test_the_rate_falls_at_each_milestone() -> None:
    schedule = Schedule(epochs=160, learning_rate=0.1, milestones=(80, 120))
    rates = [schedule.rate(epoch) for epoch in (0, 79.9, 80, 119.9, 120, 159)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


def test_milestones_and_warm_up_move_in_proportion_to_the_epochs() -> None:
    schedule = Schedule(epochs=160, milestones=(80, 120), warmup_epochs=10).resized(epochs=40)
    assert (schedule.epochs, schedule.milestones, schedule.warmup_epochs) == (40, (20, 30), 2.5)


def test_a_schedule_keeps_what_is_not_replaced() -> None:
    schedule = Schedule(epochs=160, learning_rate=0.2, milestones=(80,), weight_decay=1e-3, batch_size=64)
    assert schedule.resized() == schedule
    changed = schedule.resized(learning_rate=0.3, weight_decay=0.0, batch_size=8)
    assert (changed.learning_rate, changed.weight_decay, changed.batch_size) == (0.3, 0.0, 8)
    assert (changed.epochs, changed.milestones) == (160, (80,))


def test_a_warm_up_rises_to_the_rate_from_above_zero() -> None:
    schedule = Schedule(epochs=10, learning_rate=1.0, warmup_epochs=2)
    rates = [schedule.rate(epoch) for epoch in (0, 0.5, 1, 1.5, 2, 9)]
    assert rates == sorted(rates)
    assert 0 < rates[0] < 0.1
    assert rates[-2:] == [1.0, 1.0]


def test_rows_that_may_not_be_negative_are_not_after_training() -> None:
    ends = {}
    for non_negative in (False, True):
        network = make_network()
        choice = HeadChoice(non_negative=non_negative)
        network.head = heads.grow(
            choice,
            {"weight": -torch.ones(1, network.backbone.feature_length), "bias": torch.zeros(1)},
            feature_length=network.backbone.feature_length,
            class_count=2,
            generator=torch.Generator().manual_seed(0),
        )
        run(network, bright_or_dark(40), Schedule(epochs=2, learning_rate=0.1))
        ends[non_negative] = network.head.weight.min().item()
    assert ends[False] < 0
    assert ends[True] == 0
