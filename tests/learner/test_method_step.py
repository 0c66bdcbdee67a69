"""What a step hands on: exemplars, class means and training data by the rules of its stages.

Shapes: vectors of length 4 through the identity backbone, so that features are known exactly.
"""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from accrete_learner import backbones, evaluate, methods
from accrete_learner.config import Augmentation, MethodConfig, ModelConfig, RuleChoice, SelectionChoice, TrainingConfig
from accrete_learner.losses import Batch
from accrete_learner.memory import exemplars
from accrete_learner.memory.exemplars import Exemplars
from accrete_learner.method_step import StepInputs, StepOutcome, run_method_step
from accrete_learner.methods.base import Method
from accrete_learner.selection import select

pytestmark = pytest.mark.integration

LENGTH = 4
TRAINING = TrainingConfig(base_epochs=2, epochs=2, batch_size=4, learning_rate=0.01)


def around(label: int, count: int, seed: int) -> Tensor:
    """`count` vectors about the axis of `label`."""
    noise = torch.randn(count, LENGTH, generator=torch.Generator().manual_seed(seed))
    return noise + 4 * torch.eye(LENGTH)[label]


def make_inputs(**changes: object) -> StepInputs:
    """A step that knows classes 0 and 1, has 3 and 2 exemplars of them, and gets 6 examples of 1 and 5 of the new 2."""
    values: dict[str, object] = {
        "backbone": backbones.build(ModelConfig(backbone="identity", embedding=LENGTH)),
        "parent_head": {"weight": torch.eye(LENGTH)[:2], "scale": torch.ones(1), "means": torch.eye(LENGTH)[:2]},
        "class_count": 3,
        "new_x": torch.cat((around(1, 6, seed=1), around(2, 5, seed=2))),
        "new_y": torch.tensor([1] * 6 + [2] * 5),
        "exemplar_x": torch.cat((around(0, 3, seed=3), around(1, 2, seed=4))),
        "exemplar_y": torch.tensor([0, 0, 0, 1, 1]),
        "per_class": 3,
    }
    return StepInputs(**(values | changes))  # type: ignore[arg-type]


def first_inputs() -> StepInputs:
    nothing = {"exemplar_x": torch.empty(0, LENGTH), "exemplar_y": torch.empty(0, dtype=torch.int64)}
    return make_inputs(parent_head=None, new_y=torch.tensor([0] * 6 + [1] * 5), class_count=2, **nothing)


def configured(
    name: str, training: TrainingConfig = TRAINING, *, rule: RuleChoice = "", selection: SelectionChoice = ""
) -> Method:
    return methods.configured(MethodConfig(name=name, rule=rule, selection=selection), training)


def run(inputs: StepInputs, method: str | Method = "lucir", seed: int = 0) -> StepOutcome:
    chosen = configured(method) if isinstance(method, str) else method
    generator = torch.Generator().manual_seed(seed)
    return run_method_step(inputs, chosen, progress=lambda *_: None, generator=generator)


def candidates(inputs: StepInputs) -> tuple[Tensor, Tensor]:
    return torch.cat((inputs.exemplar_x, inputs.new_x)), torch.cat((inputs.exemplar_y, inputs.new_y))


def test_a_class_with_new_examples_is_herded_anew_over_old_exemplars_and_new_examples() -> None:
    inputs = make_inputs()
    outcome = run(inputs)
    x, y = candidates(inputs)
    assert sorted(outcome.exemplars) == [1, 2]
    for label, chosen in outcome.exemplars.items():
        own = (y == label).nonzero().squeeze(1)
        expected = own[select("herding", F.normalize(x[own], dim=1), 3, torch.Generator())]
        assert chosen.source.tolist() == expected.tolist()
        assert torch.equal(chosen.x, x[expected])


def test_random_selection_can_replace_a_methods_own() -> None:
    method = configured("lucir", selection="random")
    picks = {tuple(run(make_inputs(), method, seed).exemplars[1].source.tolist()) for seed in range(6)}
    assert len(picks) > 1


def test_means_are_over_the_exemplars_that_stay_after_the_step() -> None:
    inputs = make_inputs(per_class=2)
    outcome = run(inputs)
    x, _ = candidates(inputs)
    stay = {0: torch.tensor([0, 1]), 1: outcome.exemplars[1].source, 2: outcome.exemplars[2].source}
    for label, index in stay.items():
        expected = F.normalize(F.normalize(x[index], dim=1).mean(0), dim=0)
        torch.testing.assert_close(outcome.means[label], expected)


def test_an_old_class_without_exemplars_keeps_the_parents_mean() -> None:
    exemplars = {"exemplar_x": around(1, 2, seed=4), "exemplar_y": torch.tensor([1, 1])}
    inputs = make_inputs(new_x=around(2, 5, seed=2), new_y=torch.full((5,), 2), **exemplars)
    torch.testing.assert_close(run(inputs).means[0], torch.eye(LENGTH)[0])


def test_a_method_without_a_memory_chooses_nothing_and_takes_means_from_new_examples() -> None:
    inputs = make_inputs()
    outcome = run(inputs, "finetune")
    assert outcome.exemplars == {}
    torch.testing.assert_close(outcome.means[0], torch.eye(LENGTH)[0])
    expected = F.normalize(F.normalize(inputs.new_x[inputs.new_y == 2], dim=1).mean(0), dim=0)
    torch.testing.assert_close(outcome.means[2], expected)


def test_a_budget_of_nothing_still_gives_every_class_a_mean() -> None:
    outcome = run(make_inputs(per_class=0))
    assert all(len(index) == 0 for index in outcome.exemplars.values())
    torch.testing.assert_close(outcome.means.norm(dim=1), torch.ones(3))


class Recorder:
    """A loss term that notes what it is shown."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []

    def applies(self, old_count: int, new_count: int) -> bool:
        return True

    def __call__(self, batch: Batch) -> Tensor:
        self.batches.append(batch)
        return batch.scores.square().mean()


def recorded(inputs: StepInputs, name: str, training: TrainingConfig = TRAINING) -> list[Batch]:
    recorder = Recorder()
    run(inputs, replace(configured(name, training), terms=(recorder,)))
    return recorder.batches


def test_a_method_with_a_memory_trains_on_exemplars_and_new_examples_and_knows_which_is_which() -> None:
    batches = recorded(make_inputs(), "lucir", replace(TRAINING, epochs=1))
    seen = [(int(y), bool(new)) for batch in batches for y, new in zip(batch.labels, batch.fresh, strict=True)]
    assert sorted(seen) == sorted([(0, False)] * 3 + [(1, False)] * 2 + [(1, True)] * 6 + [(2, True)] * 5)


def test_a_method_without_a_memory_trains_on_new_examples_alone() -> None:
    batches = recorded(make_inputs(), "finetune", replace(TRAINING, epochs=1))
    assert sorted(int(y) for batch in batches for y in batch.labels) == [1] * 6 + [2] * 5
    assert all(batch.fresh.all() for batch in batches)


def test_the_teacher_answers_as_the_parent_did() -> None:
    for batch in recorded(make_inputs(), "lucir"):
        assert batch.teacher_features is not None
        assert batch.teacher_scores is not None
        torch.testing.assert_close(batch.teacher_scores, F.normalize(batch.features, dim=1)[:, :2])
        assert not batch.teacher_scores.requires_grad


def test_a_first_step_has_no_teacher_and_no_rebalancing() -> None:
    assert all(batch.teacher_scores is None for batch in recorded(first_inputs(), "lucir"))
    assert len(run(first_inputs()).losses) == TRAINING.base_epochs


def test_a_later_step_counts_the_rebalancing_epochs_too() -> None:
    assert len(run(make_inputs()).losses) == 2 + 1


def test_new_rows_start_imprinted_before_training() -> None:
    inputs = make_inputs()
    first_batch = recorded(inputs, "lucir")[0]
    mean = F.normalize(F.normalize(inputs.new_x[inputs.new_y == 2], dim=1).mean(0), dim=0)
    torch.testing.assert_close(first_batch.rows[2].detach(), mean)


def test_the_rule_is_the_methods_unless_another_is_asked_for() -> None:
    rules = {name: run(make_inputs(), name).rule for name in ("lucir", "icarl", "finetune", "lwf")}
    assert rules == {"lucir": "head", "icarl": "nme", "finetune": "head", "lwf": "head"}
    assert run(make_inputs(), configured("lucir", rule="nme")).rule == "nme"


def test_each_stage_is_timed_and_the_long_ones_report_their_progress() -> None:
    seen: list[tuple[str, int, int]] = []
    outcome = run_method_step(
        make_inputs(),
        configured("lucir"),
        progress=lambda stage, done, total, loss: seen.append((stage, done, total)),
        generator=torch.Generator().manual_seed(0),
    )
    assert seen == [("train", 1, 2), ("train", 2, 2), ("rebalance", 1, 1)]
    assert list(outcome.stage_seconds) == ["build", "train", "rebalance", "memory", "head"]


def test_a_step_without_a_new_example_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one new example"):
        run(make_inputs(new_x=torch.empty(0, LENGTH), new_y=torch.empty(0, dtype=torch.int64)))


def test_a_balanced_set_repeats_small_classes_and_skips_missing_ones() -> None:
    x = torch.arange(10.0)[:, None]
    index = [torch.tensor([4, 5, 6]), torch.tensor([7]), torch.tensor([], dtype=torch.int64)]
    kept = [Exemplars(x=x[own], source=own) for own in index]
    balanced_x, y, source = exemplars.balanced(kept)
    assert source.tolist() == [4, 5, 6, 7, 7, 7]
    assert balanced_x[:, 0].tolist() == source.tolist()
    assert y.tolist() == [0, 0, 0, 1, 1, 1]
    assert [len(part) for part in exemplars.balanced(kept[2:])] == [0, 0, 0]


def image_means(augmentation: Augmentation) -> tuple[StepInputs, StepOutcome]:
    model = ModelConfig(backbone="resnet8", input_size=8, channels=1)
    x = torch.randint(256, (8, 8, 8, 1), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    inputs = make_inputs(
        backbone=backbones.build(model, generator=torch.Generator().manual_seed(0)),
        parent_head=None,
        class_count=2,
        new_x=x,
        new_y=torch.tensor([0] * 4 + [1] * 4),
        exemplar_x=x[:0],
        exemplar_y=torch.empty(0, dtype=torch.int64),
    )
    return inputs, run(inputs, configured("icarl", replace(TRAINING, augmentation=augmentation)))


@pytest.mark.parametrize("augmentation", ["crop", "crop_flip"])
def test_means_take_in_mirror_images_only_where_training_does(augmentation: Augmentation) -> None:
    inputs, outcome = image_means(augmentation)
    for label, kept in outcome.exemplars.items():
        x = inputs.new_x[kept.source]
        directions = F.normalize(evaluate.extract(outcome.backbone, x), dim=1)
        if augmentation == "crop_flip":
            directions = directions + F.normalize(evaluate.extract(outcome.backbone, x.flip(2)), dim=1)
        torch.testing.assert_close(outcome.means[label], F.normalize(directions.mean(0), dim=0))
