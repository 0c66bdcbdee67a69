"""FOSTER: what stands still and what learns in each of its two trainings, and that one backbone comes of both."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from accrete_learner import backbones, method_step, methods
from accrete_learner.augmentation import augment
from accrete_learner.config import MethodConfig, ModelConfig, TrainingConfig
from accrete_learner.heads import CosineHead, HeadChoice, LinearHead
from accrete_learner.losses import AlignedCrossEntropy, CrossEntropy
from accrete_learner.method_step import StepInputs, StepOutcome, run_method_step
from accrete_learner.methods.base import Method
from accrete_learner.ranks import ALONE
from accrete_learner.training.checkpoint import Checkpoint
from accrete_learner.training.loop import TrainingSet, train
from accrete_learner.training.network import Network
from accrete_learner.training.schedule import Knee, Schedule
from accrete_learner.training.two_branches import TwoBranches, beside
from tests.learner.test_methods import TRAINING, check, configured, first_inputs, next_inputs

pytestmark = pytest.mark.integration

FOSTER = methods.load("foster")
#: Two epochs of boosting and as many of compression.
SMALL = configured("foster")

State = dict[str, Tensor]


def state(network: nn.Module | None) -> State:
    return {} if network is None else {name: tensor.clone() for name, tensor in network.state_dict().items()}


def same(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def second_step(method: Method = SMALL, **changes: object) -> StepInputs:
    """Two classes are known, each with three exemplars; two come."""
    inputs = first_inputs({0: 9, 1: 9})
    generator = torch.Generator().manual_seed(1)
    outcome = run_method_step(inputs, method, progress=lambda *_: None, generator=generator)
    return replace(next_inputs(inputs, outcome, {2: 12, 3: 12}, 2), **changes)  # type: ignore[arg-type]


def go(inputs: StepInputs, method: Method = SMALL, **options: Any) -> StepOutcome:
    values: dict[str, Any] = {"progress": lambda *_: None, "generator": torch.Generator().manual_seed(2)}
    return run_method_step(inputs, method, **(values | options))


@dataclass(frozen=True, kw_only=True)
class Training:
    """One call of the training loop, with the states before and after it."""

    network: Network
    teacher: Network
    terms: tuple[object, ...]
    schedule: Schedule
    before: tuple[State, State]
    after: tuple[State, State]
    own: tuple[State, State]
    """Of the step's own backbone, which the student has."""


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> Callable[[StepInputs, Method], list[Training]]:
    """trainings(inputs, method): a step's trainings."""

    def watch(inputs: StepInputs, method: Method) -> list[Training]:
        seen: list[Training] = []

        def watched(network: Any, data: Any, terms: Any, schedule: Any, **options: Any) -> list[float]:
            teacher = options["teacher"]
            before, own = (state(network), state(teacher)), state(inputs.backbone)
            losses = train(network, data, terms, schedule, **options)
            seen.append(
                Training(
                    network=network,
                    teacher=teacher,
                    terms=tuple(terms),
                    schedule=schedule,
                    before=before,
                    after=(state(network), state(teacher)),
                    own=(own, state(inputs.backbone)),
                )
            )
            return losses

        monkeypatch.setattr(method_step, "train", watched)
        go(inputs, method)
        return seen

    return watch


def test_boosting_trains_a_new_branch_and_leaves_the_old_network_and_the_student_alone(trainings: Any) -> None:
    inputs = second_step()
    boosting, _ = trainings(inputs, SMALL)
    assert isinstance(boosting.network, TwoBranches)
    assert boosting.terms == SMALL.terms
    assert boosting.schedule == SMALL.increment
    # Its statistics of batches too.
    assert same(*(states[1] for states in (boosting.before, boosting.after)))
    assert same(*boosting.own)
    (before, _), (after, _) = boosting.before, boosting.after
    assert not any("frozen" in name or "parts" in name for name in before)
    moved = [name for name in before if not torch.equal(before[name], after[name])]
    assert {name.split(".")[0] for name in moved} == {"backbone", "head", "auxiliary"}
    assert "backbone.network.conv1.weight" in moved
    assert "backbone.network.bn1.running_mean" in moved


def test_a_new_branch_begins_as_the_old_one_and_its_head_as_the_old_one_saw_it(trainings: Any) -> None:
    inputs = second_step()
    assert inputs.parent_head is not None
    parent, length = inputs.parent_head, inputs.backbone.feature_length
    boosting, _ = trainings(inputs, SMALL)
    before, teacher = boosting.before
    assert all(torch.equal(before[name], teacher[name]) for name in before if name.startswith("backbone."))
    assert torch.equal(before["head.old_rows"][:, :length], parent["weight"])
    assert torch.equal(before["head.old_bias"], parent["bias"])
    others = torch.cat((before["head.old_rows"][:, length:], *before["head.new_rows"].split(length, dim=1)))
    assert 0 < float(others.abs().max()) <= 1 / math.sqrt(2 * length)
    assert len(others) == 2 + 2 + 2


def test_compression_trains_the_student_alone_with_both_branches_as_its_teacher(trainings: Any) -> None:
    inputs = second_step()
    boosting, compression = trainings(inputs, SMALL)
    assert SMALL.boosting is not None
    assert compression.teacher is boosting.network
    assert compression.network.backbone is inputs.backbone
    assert compression.terms == SMALL.boosting.terms
    assert compression.schedule == SMALL.boosting.compression
    assert same(*(states[1] for states in (compression.before, compression.after)))
    assert not same(*compression.own)
    assert same(compression.own[0], boosting.own[0])


def test_the_student_answers_more_and_more_as_both_branches_do(trainings: Any) -> None:
    method = configured("foster", replace(TRAINING, epochs=12))
    inputs = second_step()
    before = go(second_step(), replace(method, boosting=untrained(method)))
    _, compression = trainings(inputs, method)
    x = inputs.backbone.prepare(torch.cat((inputs.exemplar_x, inputs.new_x)))
    with torch.no_grad():
        wanted, found = (network(x)[1].softmax(1) for network in (compression.teacher, compression.network))
        begun = before.head(before.backbone.eval().features_from(x)).softmax(1)
    assert (wanted - found).abs().mean() < (wanted - begun).abs().mean() / 2


def untrained(method: Method) -> Any:
    assert method.boosting is not None
    return replace(method.boosting, compression=Schedule(epochs=1, learning_rate=1e-9, weight_decay=0.0))


def test_one_backbone_of_the_same_form_is_left(trainings: Any) -> None:
    inputs = second_step()
    names = set(inputs.backbone.state_dict())
    outcome = go(inputs)
    check(inputs, outcome, SMALL)
    assert outcome.backbone is inputs.backbone
    assert set(outcome.backbone.state_dict()) == names
    assert outcome.head.weight.shape == (4, inputs.backbone.feature_length)
    assert outcome.head.export()["blocks"].tolist() == [0, 0, 1, 1]
    assert len(outcome.losses) == 4
    assert outcome.images == 4 * (len(inputs.new_y) + len(inputs.exemplar_y))


def test_epochs_are_told_over_both_trainings() -> None:
    seen: list[tuple[str, int, int]] = []
    go(second_step(), progress=lambda stage, done, total, loss: seen.append((stage, done, total)))
    assert seen == [("train", 1, 4), ("train", 2, 4), ("train", 3, 4), ("train", 4, 4)]


def test_a_first_step_is_plain_cross_entropy(trainings: Any) -> None:
    assert FOSTER.base_terms() == (AlignedCrossEntropy(beta=0.94),)
    inputs = first_inputs({0: 5, 1: 9})
    (training,) = trainings(inputs, SMALL)
    assert type(training.network) is Network
    plain = first_inputs({0: 5, 1: 9})
    outcome = go(plain, replace(SMALL, terms=(CrossEntropy(),)))
    assert same(state(outcome.backbone), training.own[1])


def test_compression_shortens_in_proportion_and_takes_the_schedule_that_is_asked_for() -> None:
    def compression(**training: Any) -> Schedule:
        boosting = methods.configured(MethodConfig(name="foster"), TrainingConfig(**training)).boosting
        assert boosting is not None
        return boosting.compression

    own = compression()
    assert (own.epochs, own.learning_rate, own.weight_decay, own.batch_size) == (130, 0.1, 0.0, 128)
    assert [own.rate(epoch) for epoch in (0, 65, 130)] == pytest.approx([0.1, 0.05, 0.0])
    short = compression(epochs=17, learning_rate=0.05, batch_size=32, copies=2, weight_decay=1e-4)
    assert (short.epochs, short.learning_rate, short.batch_size, short.copies) == (13, 0.05, 32, 2)
    assert short.weight_decay == 0.0
    assert compression(epochs=1).epochs == 1
    knee = compression(epochs=17, schedule="knee")
    assert isinstance(knee, Knee)
    assert (knee.epochs, knee.learning_rate, knee.weight_decay) == (13, 0.25, 0.0)
    method = methods.configured(MethodConfig(name="foster"), TrainingConfig(base_epochs=4, epochs=17, copies=2))
    assert (method.passes(first=True), method.passes(first=False)) == (8, 60)
    assert methods.load("lucir").passes(first=False) == 160


def test_a_bound_on_time_leaves_out_the_same_share_of_the_epochs_of_both() -> None:
    assert FOSTER.boosting is not None
    boosting_s, compression_s = FOSTER.boosting.shared(133.0, 170)
    assert (boosting_s, compression_s) == pytest.approx((68.0, 65.0))
    assert FOSTER.boosting.shared(math.inf, 170) == (math.inf, math.inf)
    method = configured("foster", replace(TRAINING, epochs=50, batch_size=2))
    notes: list[str] = []
    outcome = go(second_step(max_seconds=1e-6), method, note=notes.append)
    assert len(outcome.losses) == 2
    assert ["50 epochs" in notes[0], "38 epochs" in notes[1], len(notes)] == [True, True, 2]


@pytest.mark.parametrize("until", [1, 2, 3, 4])
@pytest.mark.parametrize("choice", ["plain", "knee", "weight transfer, aligned"])
def test_a_step_that_is_killed_in_either_training_goes_on_to_the_same_bits(
    choice: str, until: int, tmp_path: Path
) -> None:
    method = configured("foster", replace(TRAINING, schedule="knee" if choice == "knee" else "own"))
    assert method.boosting is not None
    if choice.startswith("weight"):
        method = replace(method, weight_transfer=True, boosting=replace(method.boosting, aligned=True))

    def stop(stage: str, done: int, total: int, loss: float) -> None:
        if done == until:
            raise KeyboardInterrupt

    whole = go(second_step(), method)
    with suppress(KeyboardInterrupt):
        go(second_step(), method, progress=stop, checkpoint=Checkpoint(tmp_path / "file", interval_s=0.0))
    seen: list[int] = []
    checkpoint = Checkpoint(tmp_path / "file", interval_s=0.0)
    resumed = go(
        second_step(), method, progress=lambda stage, done, total, loss: seen.append(done), checkpoint=checkpoint
    )
    assert seen == list(range(until + 1, 5))
    assert resumed.losses == whole.losses
    assert same(state(resumed.backbone), state(whole.backbone))
    assert same(resumed.head.export(), whole.head.export())
    assert {label: own.source.tolist() for label, own in resumed.exemplars.items()} == {
        label: own.source.tolist() for label, own in whole.exemplars.items()
    }
    assert checkpoint.seconds_before > 0


def test_new_rows_are_aligned_before_compression_where_that_is_asked_for(trainings: Any) -> None:
    assert SMALL.boosting is not None
    lengths = {}
    for aligned in (False, True):
        method = replace(SMALL, boosting=replace(SMALL.boosting, aligned=aligned))
        boosting, compression = trainings(second_step(), method)
        taught = compression.before[1]
        lengths[aligned] = [float(taught[f"head.{rows}_rows"].norm(dim=1).mean()) for rows in ("old", "new")]
        assert torch.equal(taught["head.new_rows"], boosting.after[0]["head.new_rows"]) != aligned
    assert lengths[True][0] == pytest.approx(lengths[True][1])
    assert lengths[False][0] != pytest.approx(lengths[False][1])


def test_two_branches_score_what_both_features_say_and_share_the_frozen_ones() -> None:
    inputs = second_step()
    assert inputs.parent_head is not None
    frozen = Network(
        inputs.backbone,
        LinearHead(inputs.parent_head["weight"], torch.zeros(0, 128), inputs.parent_head["bias"], torch.zeros(0)),
    ).teacher()
    calls: list[int] = []
    frozen.register_forward_hook(lambda *_: calls.append(1))
    generator = torch.Generator().manual_seed(3)
    both = beside(frozen, inputs.backbone, HeadChoice(), inputs.parent_head, class_count=4, generator=generator).eval()
    with torch.no_grad():
        both.backbone.network.conv1.weight.mul_(1.5)  # type: ignore[union-attr,operator]
    x = inputs.backbone.prepare(inputs.new_x)
    outputs = both.outputs(x, ALONE.shard(len(x)), frozen)
    assert len(calls) == 1
    old, new = frozen.backbone.features_from(x), both.backbone.features_from(x)
    assert not torch.equal(old, new)
    assert isinstance(both.head, LinearHead)
    expected = old @ both.head.weight[:, :128].T + new @ both.head.weight[:, 128:].T + both.head.bias
    torch.testing.assert_close(outputs.scores, expected)
    torch.testing.assert_close(outputs.features, new)
    torch.testing.assert_close(outputs.auxiliary_scores, both.auxiliary(new))
    torch.testing.assert_close(outputs.teacher_scores, frozen.head(old))
    torch.testing.assert_close(both(x)[1], expected)
    assert torch.equal(both.rows, both.head.weight[:, 128:])
    both.train()
    assert not frozen.backbone.training


@pytest.mark.parametrize(
    "method",
    [
        replace(SMALL, head=HeadChoice(kind="cosine", imprint=True, freeze_old=True)),
        replace(SMALL, frozen="increments"),
        replace(SMALL, terms=methods.load("lucir").terms),
        replace(SMALL, weight_transfer=True),
        replace(SMALL, rebalance=methods.load("bic").rebalance),
        replace(SMALL, rule="nme"),
    ],
    ids=["cosine", "frozen", "other terms", "weight transfer", "bias correction", "nme"],
)
def test_other_choices_go_with_it(method: Method) -> None:
    inputs = second_step(method)
    before = state(inputs.backbone)
    outcome = go(inputs, method)
    check(inputs, outcome, method)
    assert same(before, state(outcome.backbone)) == (method.frozen == "increments")
    assert isinstance(outcome.head, CosineHead if method.head.kind == "cosine" else LinearHead)


def test_it_does_without_exemplars() -> None:
    inputs = second_step(per_class=0, exemplar_x=torch.empty(0, 8, 8, 1, dtype=torch.uint8))
    inputs = replace(inputs, exemplar_y=torch.empty(0, dtype=torch.int64))
    outcome = go(inputs)
    assert all(torch.isfinite(tensor).all() for tensor in outcome.head.export().values())
    assert len(outcome.losses) == 4


def test_it_multiplies_in_bfloat16_where_it_is_told_to() -> None:
    check(inputs := second_step(autocast=True), go(inputs), SMALL)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small"])
def test_torchvisions_networks_learn_so_too(name: str) -> None:
    model = ModelConfig(backbone=name, input_size=32)
    backbone = backbones.build(model, generator=torch.Generator().manual_seed(1)).to(memory_format=torch.channels_last)
    x = torch.randint(256, (4, 32, 32, 3), generator=torch.Generator().manual_seed(2), dtype=torch.uint8)
    rows = torch.randn(2, backbone.feature_length, generator=torch.Generator().manual_seed(3))
    inputs = first_inputs(
        {},
        backbone=backbone,
        parent_head={"weight": rows, "bias": torch.zeros(2), "means": rows / rows.norm(dim=1, keepdim=True)},
        class_count=3,
        new_x=x,
        new_y=torch.full((4,), 2),
        exemplar_x=x[:0],
    )
    outcome = go(inputs, replace(SMALL, augmentation="crop"))
    assert all(torch.isfinite(tensor).all() for tensor in outcome.backbone.state_dict().values())
    assert outcome.head.weight.shape == (3, backbone.feature_length)


def test_the_old_branch_learns_nothing_even_where_all_is_asked_for_gradients() -> None:
    """The loop asks all of a network's parameters for gradients, and averages and decays what it finds."""
    inputs = second_step()
    assert inputs.parent_head is not None
    frozen = Network(
        inputs.backbone, LinearHead(torch.zeros(2, 128), torch.zeros(0, 128), torch.zeros(2), torch.zeros(0))
    )
    frozen = frozen.teacher()
    before = state(frozen)
    generator = torch.Generator().manual_seed(3)
    both = beside(frozen, inputs.backbone, HeadChoice(), inputs.parent_head, class_count=4, generator=generator)
    train(
        both,
        TrainingSet(x=inputs.new_x, y=inputs.new_y, fresh=torch.ones(len(inputs.new_y)) > 0),
        FOSTER.terms,
        Knee.of(Schedule(epochs=5, batch_size=8)),
        augmentation=augment.build("crop"),
        generator=generator,
        report=lambda *_: None,
        teacher=frozen,
    )
    assert same(before, state(frozen))
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in frozen.parameters())
