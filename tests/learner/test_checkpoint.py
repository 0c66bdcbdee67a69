"""A training that was interrupted goes on to the same bits; what is of another training is refused."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from accrete_learner.augmentation import augment
from accrete_learner.losses import CrossEntropy
from accrete_learner.training.checkpoint import Checkpoint
from accrete_learner.training.loop import train
from accrete_learner.training.network import Network
from accrete_learner.training.schedule import Knee, Schedule
from tests.learner.test_train import bright_or_dark, make_network, state

pytestmark = pytest.mark.integration

SCHEDULE = Schedule(epochs=5, learning_rate=0.05, milestones=(2, 4), warmup_epochs=1, batch_size=16, gradient_noise=0.1)
KNEE = Knee.of(SCHEDULE.resized(epochs=10))


class Interrupted(Exception):
    """As a process that ends."""


def with_dropout() -> Network:
    """Its dropout draws from torch's own generator, and the order of its memory is the trainer's."""
    network = make_network()
    network.backbone.network = nn.Sequential(network.backbone.network, nn.Dropout(0.3))
    return network.to(memory_format=torch.channels_last)


def go(
    network: Network,
    checkpoint: Checkpoint | None = None,
    *,
    until: int = 0,
    schedule: Schedule = SCHEDULE,
    dropout_seed: int = 5,
) -> tuple[list[float], torch.Tensor]:
    """Train, as far as after epoch `until`, and return the losses and the state of the generator."""
    torch.manual_seed(dropout_seed)
    generator = torch.Generator().manual_seed(2)

    def report(done: int, total: int, loss: float) -> None:
        if done == until:
            raise Interrupted

    losses = train(
        network,
        bright_or_dark(40),
        (CrossEntropy(),),
        schedule,
        augmentation=augment.build("crop"),
        generator=generator,
        report=report,
        checkpoint=checkpoint,
    )
    return losses, generator.get_state()


def stopped(path: Path, until: int, *, interval_s: float = 0.0, schedule: Schedule = SCHEDULE) -> None:
    with pytest.raises(Interrupted):
        go(with_dropout(), Checkpoint(path, interval_s=interval_s), until=until, schedule=schedule)


@pytest.mark.parametrize(
    ("schedule", "until"), [(SCHEDULE, 1), (SCHEDULE, 3), (SCHEDULE, 5), (KNEE, 1), (KNEE, 9), (KNEE, 10)]
)
def test_a_training_that_was_interrupted_has_the_bits_of_one_that_was_not(
    schedule: Schedule, until: int, tmp_path: Path
) -> None:
    whole, resumed = with_dropout(), with_dropout()
    losses, generator = go(whole, schedule=schedule)
    after = torch.get_rng_state()
    stopped(tmp_path / "file", until, schedule=schedule)
    checkpoint = Checkpoint(tmp_path / "file", interval_s=0.0)
    found, generator_found = go(resumed, checkpoint, schedule=schedule, dropout_seed=6)
    assert found == losses
    assert torch.equal(generator_found, generator)
    assert torch.equal(torch.get_rng_state(), after)
    assert all(torch.equal(state(whole)[name], state(resumed)[name]) for name in state(whole))


def test_a_checkpoint_changes_nothing_of_a_training(tmp_path: Path) -> None:
    plain, kept = with_dropout(), with_dropout()
    assert go(plain)[0] == go(kept, Checkpoint(tmp_path / "file", interval_s=0.0))[0]
    assert all(torch.equal(state(plain)[name], state(kept)[name]) for name in state(plain))


def test_the_time_of_what_was_taken_over_is_told_and_adds_up(tmp_path: Path) -> None:
    stopped(tmp_path / "file", 2)
    first = float(load_file(tmp_path / "file")["seconds"])
    assert first > 0
    second = Checkpoint(tmp_path / "file", interval_s=0.0)
    go(with_dropout(), second)
    assert second.seconds_before == first
    assert float(load_file(tmp_path / "file")["seconds"]) > first


def test_between_two_files_is_the_interval_and_after_the_last_epoch_there_is_one(tmp_path: Path) -> None:
    stopped(tmp_path / "file", 4, interval_s=math.inf)
    assert not os.listdir(tmp_path)
    go(with_dropout(), Checkpoint(tmp_path / "file", interval_s=math.inf))
    assert os.listdir(tmp_path) == ["file"]
    assert len(load_file(tmp_path / "file")["losses"]) == 5


def test_a_frozen_row_has_no_momentum_and_goes_on_without(tmp_path: Path) -> None:
    whole, resumed = with_dropout(), with_dropout()
    for network in (whole, resumed):
        network.head.new_rows.requires_grad_(False)
    go(whole)
    with pytest.raises(Interrupted):
        go(resumed, Checkpoint(tmp_path / "file", interval_s=0.0), until=2)
    assert "momentum.head.new_rows" not in load_file(tmp_path / "file")
    go(resumed, Checkpoint(tmp_path / "file", interval_s=0.0))
    assert all(torch.equal(state(whole)[name], state(resumed)[name]) for name in state(whole))


@pytest.mark.parametrize("until", [2, 9])
def test_a_checkpoint_of_another_schedule_is_refused(until: int, tmp_path: Path) -> None:
    stopped(tmp_path / "file", until, schedule=KNEE)
    with pytest.raises(ValueError, match="average.* does not fit"):
        go(with_dropout(), Checkpoint(tmp_path / "file", interval_s=0.0), schedule=SCHEDULE.resized(epochs=10))


@pytest.mark.parametrize("name", ["average.count", "average.mean.head.new_rows"])
def test_a_checkpoint_with_half_an_average_is_refused(name: str, tmp_path: Path) -> None:
    stopped(tmp_path / "file", 9, schedule=KNEE)
    _without(name, tmp_path / "file")
    with pytest.raises(ValueError, match="average.* does not fit"):
        go(with_dropout(), Checkpoint(tmp_path / "file", interval_s=0.0), schedule=KNEE)


def then(network: Network, first: Checkpoint, *, until: int = 0) -> list[float]:
    """Another training that follows one that is over."""
    return go(network, first.following(), until=until)[0]


@pytest.mark.parametrize("until", [1, 4, 5])
@pytest.mark.parametrize("schedule", [SCHEDULE, KNEE])
def test_two_trainings_of_one_file_go_on_in_the_second_to_the_same_bits(
    schedule: Schedule, until: int, tmp_path: Path
) -> None:
    whole = [with_dropout(), with_dropout()]
    undisturbed = Checkpoint(tmp_path / "undisturbed", interval_s=0.0)
    expected = go(whole[0], undisturbed, schedule=schedule)[0], then(whole[1], undisturbed)
    file = tmp_path / "file"
    first = Checkpoint(file, interval_s=0.0)
    go(with_dropout(), first, schedule=schedule)
    with pytest.raises(Interrupted):
        then(with_dropout(), first, until=until)
    resumed = [with_dropout(), with_dropout()]
    again = Checkpoint(file, interval_s=0.0)
    found = go(resumed[0], again, schedule=schedule, until=-1)[0], then(resumed[1], again)
    assert found == expected
    for one, other in zip(whole, resumed, strict=True):
        assert all(torch.equal(state(one)[name], state(other)[name]) for name in state(one))
    assert not any(name.startswith("before.momentum") for name in load_file(file))


def test_the_second_of_two_trainings_begins_anew_where_nothing_of_it_was_kept(tmp_path: Path) -> None:
    alone, after, file = with_dropout(), with_dropout(), tmp_path / "file"
    first = Checkpoint(file, interval_s=math.inf)
    go(with_dropout(), first)
    with pytest.raises(Interrupted):
        then(with_dropout(), first, until=4)
    assert not any(name.startswith("before.") for name in load_file(file))
    again = Checkpoint(file, interval_s=math.inf)
    go(with_dropout(), again)
    assert then(after, again) == go(alone)[0]


def test_the_time_of_both_trainings_is_told(tmp_path: Path) -> None:
    first = Checkpoint(tmp_path / "file", interval_s=0.0)
    go(with_dropout(), first)
    then(with_dropout(), first)
    tensors = load_file(tmp_path / "file")
    again = Checkpoint(tmp_path / "file", interval_s=0.0)
    go(with_dropout(), again)
    assert again.seconds_before == float(tensors["before.seconds"])
    then(with_dropout(), again)
    assert again.seconds_before == float(tensors["before.seconds"]) + float(tensors["seconds"])


@pytest.mark.parametrize("epochs", [4, 6])
def test_a_training_that_was_over_after_another_number_of_epochs_is_another(epochs: int, tmp_path: Path) -> None:
    first = Checkpoint(tmp_path / "file", interval_s=0.0)
    go(with_dropout(), first)
    then(with_dropout(), first)
    with pytest.raises(ValueError, match=f"5 epochs old, the training has {epochs}"):
        go(with_dropout(), Checkpoint(tmp_path / "file", interval_s=0.0), schedule=SCHEDULE.resized(epochs=epochs))


def _without(name: str, path: Path) -> None:
    tensors = load_file(path)
    del tensors[name]
    save_file(tensors, path)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-100]),
        lambda path: path.write_bytes(b""),
        lambda path: _without("network.head.new_rows", path),
        lambda path: _without("random.run", path),
        lambda path: _without("losses", path),
        lambda path: _without("seconds", path),
        lambda path: save_file(load_file(path) | {"network.more": torch.zeros(1)}, path),
        lambda path: save_file(load_file(path) | {"momentum.head.new_rows": torch.zeros(1)}, path),
        lambda path: save_file(load_file(path) | {"losses": torch.zeros(9)}, path),
    ],
)
def test_what_is_no_checkpoint_of_this_training_is_refused_by_name(spoil: object, tmp_path: Path) -> None:
    path, network = tmp_path / "file", with_dropout()
    stopped(path, 2)
    assert callable(spoil)
    spoil(path)
    content, before = path.read_bytes(), state(network)
    with pytest.raises(ValueError, match=f"{path} is no checkpoint of this training .*begins anew"):
        go(network, Checkpoint(path, interval_s=0.0))
    assert all(torch.equal(before[name], state(network)[name]) for name in before)
    assert path.read_bytes() == content
