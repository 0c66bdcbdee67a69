"""Every method passes the same small steps, and is what its paper says."""

import importlib
import itertools
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import accrete_learner
from accrete_learner import backbones, evaluate, methods
from accrete_learner.config import MethodConfig, ModelConfig, SelectionChoice, TrainingConfig
from accrete_learner.heads import HeadChoice
from accrete_learner.losses import CrossEntropy
from accrete_learner.method_names import FAMILIES, available, begins_anew
from accrete_learner.method_step import StepInputs, StepOutcome, run_method_step
from accrete_learner.methods.base import Method
from accrete_learner.rebalance import BalancedFineTuning
from accrete_learner.training.schedule import Schedule

pytestmark = pytest.mark.integration

SHAPE = (8, 8, 1)
MODEL = ModelConfig(backbone="resnet8", input_size=8, channels=1)
TRAINING = TrainingConfig(base_epochs=2, epochs=2, copies=1, batch_size=8, learning_rate=0.02, augmentation="crop")
PER_CLASS = 3

EMPTY_X, EMPTY_Y = torch.empty(0, *SHAPE, dtype=torch.uint8), torch.empty(0, dtype=torch.int64)

NAMES = available()
#: One for each head, loss, memory and rebalancing. The others are made of the same choices, and
#: tests/conformance/test_learning.py takes all of them through steps of every shape.
CORE = ("bic", "eeil", "finetune", "foster", "icarl", "lucir", "mnemonics_icarl", "ranpac", "wa")
#: A method of each kind of head, and one that keeps nothing.
STARTS = ("finetune", "lucir", "ranpac")

Counts = dict[int, int]
"""Examples of each class that come for a step."""

STEPS: dict[str, tuple[Counts, ...]] = {
    "base": ({0: 6, 1: 6, 2: 6},),
    "increment": ({0: 6, 1: 6}, {2: 6, 3: 6}),
    "one class after two": ({0: 6, 1: 6}, {2: 6}),
    "one class first": ({0: 5}, {1: 5}, {2: 5, 3: 5}),
    "known classes alone": ({0: 6, 1: 6}, {0: 3, 1: 4}),
    "new and known classes": ({0: 6, 1: 6}, {1: 4, 2: 6}),
    "one example": ({0: 1}, {1: 1}, {0: 1}),
    "tiny beside large": ({0: 20, 1: 1}, {2: 1, 3: 17}),
    "a last batch of one": ({0: 9, 1: 8}, {2: 9, 3: 8}),
}


def examples(counts: Counts, seed: int) -> tuple[Tensor, Tensor]:
    """Noise around a grey level of its own for each class."""
    y = torch.tensor([label for label, count in counts.items() for _ in range(count)])
    noise = torch.randint(40, (len(y), *SHAPE), generator=torch.Generator().manual_seed(seed))
    return (noise + 50 * y[:, None, None, None] % 200).to(torch.uint8), y


def configured(name: str, training: TrainingConfig = TRAINING, *, selection: SelectionChoice = "") -> Method:
    return methods.configured(MethodConfig(name=name, selection=selection, synthesis_iterations=2), training)


def first_inputs(counts: Counts, seed: int = 1, **changes: object) -> StepInputs:
    x, y = examples(counts, seed)
    values: dict[str, object] = {
        "backbone": backbones.build(MODEL, generator=torch.Generator().manual_seed(seed)),
        "parent_head": None,
        "class_count": len(counts),
        "new_x": x,
        "new_y": y,
        "exemplar_x": EMPTY_X,
        "exemplar_y": EMPTY_Y,
        "per_class": PER_CLASS,
    }
    return StepInputs(**(values | changes))  # type: ignore[arg-type]


def next_inputs(inputs: StepInputs, outcome: StepOutcome, counts: Counts, seed: int) -> StepInputs:
    """What the step after `inputs` starts from when `counts` examples have come."""
    kept = [
        outcome.exemplars[label].x
        if label in outcome.exemplars
        else inputs.exemplar_x[inputs.exemplar_y == label][: inputs.per_class]
        for label in range(inputs.class_count)
    ]
    new_x, new_y = examples(counts, seed)
    return replace(
        inputs,
        parent_head={**outcome.head.export(), "means": outcome.means},
        statistics=outcome.statistics or None,
        class_count=max(inputs.class_count, max(counts) + 1),
        new_x=new_x,
        new_y=new_y,
        exemplar_x=torch.cat(kept),
        exemplar_y=torch.arange(len(kept)).repeat_interleave(torch.tensor([len(own) for own in kept])),
    )


def run_steps(method: Method, steps: tuple[Counts, ...], seed: int = 1) -> list[tuple[StepInputs, StepOutcome]]:
    generator = torch.Generator().manual_seed(seed)
    ran: list[tuple[StepInputs, StepOutcome]] = []
    for number, counts in enumerate(steps, start=1):
        inputs = next_inputs(*ran[-1], counts, number) if ran else first_inputs(counts, seed)
        ran.append((inputs, run_method_step(inputs, method, progress=lambda *_: None, generator=generator)))
    return ran


def check(inputs: StepInputs, outcome: StepOutcome, method: Method) -> None:
    """What holds after any step of any method."""
    count, exported = inputs.class_count, outcome.head.export()
    assert len(exported["weight"]) == count
    assert all(torch.isfinite(tensor).all() for tensor in exported.values())
    assert all(torch.isfinite(tensor).all() for tensor in outcome.backbone.state_dict().values())
    torch.testing.assert_close(outcome.means.norm(dim=1), torch.ones(count))
    scores = outcome.head(evaluate.extract(outcome.backbone, inputs.new_x))
    assert scores.shape == (len(inputs.new_y), count)
    assert torch.isfinite(scores).all()
    assert all(math.isfinite(loss) for loss in outcome.losses)
    y = torch.cat((inputs.exemplar_y, inputs.new_y))
    anew, held = set(inputs.new_y.tolist()), set(y.tolist())
    adjusts = method.selection == "mnemonics"
    assert (anew if method.selection else set()) <= set(outcome.exemplars) <= (held if adjusts else anew)
    for label, kept in outcome.exemplars.items():
        assert len(kept) == len(kept.x) == min(inputs.per_class, int((y == label).sum()))
        assert len(set(kept.source.tolist())) == len(kept)
        assert (y[kept.source] == label).all()


@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)
@pytest.mark.parametrize("name", CORE)
def test_every_method_takes_steps_of_any_shape(name: str, steps: tuple[Counts, ...]) -> None:
    method = configured(name, replace(TRAINING, base_epochs=1, epochs=1))
    for inputs, outcome in run_steps(method, steps):
        check(inputs, outcome, method)


@pytest.mark.parametrize("name", CORE)
def test_every_method_repeats_itself_for_a_seed(name: str) -> None:
    method, steps = configured(name), STEPS["increment"]
    first, second = run_steps(method, steps)[-1][1], run_steps(method, steps)[-1][1]
    assert torch.equal(first.head.weight, second.head.weight)
    assert torch.equal(first.means, second.means)
    assert first.losses == second.losses
    other = run_steps(method, steps, seed=2)[-1][1]
    assert not torch.equal(first.head.weight, other.head.weight)


@pytest.mark.parametrize("name", CORE)
def test_every_method_learns_to_tell_its_first_classes_apart(name: str) -> None:
    method = configured(name, replace(TRAINING, base_epochs=12))
    inputs = first_inputs({0: 12, 1: 12, 2: 12})
    generator = torch.Generator().manual_seed(1)
    outcome = run_method_step(inputs, method, progress=lambda *_: None, generator=generator)
    features = evaluate.extract(outcome.backbone, inputs.new_x)
    scores = evaluate.scores(outcome.rule, features, {**outcome.head.export(), "means": outcome.means}, {})
    assert (scores.argmax(1) == inputs.new_y).float().mean() > 0.9


@pytest.mark.parametrize("name", CORE)
def test_a_method_goes_on_from_another_ones_model(name: str) -> None:
    for other in STARTS:
        inputs, outcome = run_steps(configured(other), STEPS["base"])[-1]
        following = next_inputs(inputs, outcome, {3: 4}, 2)
        generator = torch.Generator().manual_seed(1)
        taken_over = run_method_step(following, configured(name), progress=lambda *_: None, generator=generator)
        check(following, taken_over, configured(name))


@pytest.mark.parametrize("name", [name for name in CORE if not name.startswith("mnemonics")])
def test_vectors_need_no_backbone_to_learn(name: str) -> None:
    y = torch.arange(12) % 3
    x = torch.randn(12, 6, generator=torch.Generator().manual_seed(1)) + 3 * torch.eye(3, 6)[y]
    inputs = first_inputs(
        {0: 1, 1: 1, 2: 1},
        backbone=backbones.build(ModelConfig(backbone="identity", embedding=6)),
        new_x=x,
        new_y=y,
        exemplar_x=torch.empty(0, 6),
    )
    generator = torch.Generator().manual_seed(1)
    outcome = run_method_step(inputs, configured(name), progress=lambda *_: None, generator=generator)
    check(inputs, outcome, configured(name))


def test_there_are_the_methods_that_the_documentation_names() -> None:
    assert {"finetune", "icarl", "lucir", "lwf"} <= set(NAMES)
    assert all(methods.load(name).name == name for name in NAMES)


def test_listing_the_methods_imports_no_torch() -> None:
    program = "import sys; from accrete_learner import methods; sys.exit('torch' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(Path(accrete_learner.__file__).parents[1])}
    assert subprocess.run([sys.executable, "-c", program], check=False, env=environment).returncode == 0


def test_an_unknown_method_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="no method 'base'; there are acil, acil_blocks, analytic, bce_mse"):
        methods.load("base")


def test_configuration_replaces_a_methods_numbers_and_choices() -> None:
    training = TrainingConfig(base_epochs=40, epochs=80, learning_rate=0.05, weight_decay=1e-4, batch_size=64)
    method = methods.configured(MethodConfig(name="lucir", rule="nme", selection="random"), training)
    assert (method.base.epochs, method.base.milestones) == (40, (20, 30))
    assert (method.increment.epochs, method.increment.milestones) == (80, (40, 60))
    assert (method.increment.learning_rate, method.increment.weight_decay) == (0.05, 1e-4)
    assert method.increment.batch_size == 64
    assert (method.rule, method.selection) == ("nme", "random")
    assert isinstance(method.rebalance, BalancedFineTuning)
    assert (method.rebalance.schedule.epochs, method.rebalance.schedule.learning_rate) == (10, 0.005)


def test_an_empty_configuration_leaves_a_method_as_it_is() -> None:
    for name in NAMES:
        assert methods.configured(MethodConfig(name=name), TrainingConfig()) == methods.load(name)


def test_rebalancing_that_needs_exemplars_needs_a_method_that_keeps_some() -> None:
    schedule = Schedule(epochs=1)
    with pytest.raises(ValueError, match="needs a memory"):
        Method(
            name="wrong",
            selection=None,
            head=HeadChoice(),
            terms=(CrossEntropy(),),
            base=schedule,
            increment=schedule,
            rebalance=BalancedFineTuning(),
        )


def test_icarls_rate_and_decay_are_the_papers_on_a_loss_that_is_summed_over_outputs() -> None:
    # The paper: rate 2.0 and penalty 1e-5 |w|^2 (gradient 2e-5 w) on a loss that is the mean over 100 outputs.
    schedule, outputs = methods.load("icarl").base, 100
    assert schedule.learning_rate == pytest.approx(2.0 / outputs)
    assert schedule.learning_rate * schedule.weight_decay == pytest.approx(2.0 * 2e-5)
    assert [schedule.rate(epoch) for epoch in (48, 49, 63)] == pytest.approx([0.02, 0.004, 0.0008])


def test_lucirs_rate_falls_as_in_the_paper() -> None:
    schedule = methods.load("lucir").increment
    rates = [schedule.rate(epoch) for epoch in range(schedule.epochs)]
    assert [len(list(group)) for _, group in itertools.groupby(rates)] == [80, 40, 40]


def test_exemplars_that_are_made_are_images() -> None:
    inputs = first_inputs(
        {0: 1},
        backbone=backbones.build(ModelConfig(backbone="identity", embedding=6)),
        new_x=torch.ones(1, 6),
        new_y=torch.zeros(1, dtype=torch.int64),
        exemplar_x=torch.empty(0, 6),
    )
    method = configured("icarl", selection="collage_resized")
    with pytest.raises(ValueError, match="collage_resized makes images"):
        run_method_step(inputs, method, progress=lambda *_: None, generator=torch.Generator())


def test_the_names_written_out_are_the_methods_that_the_families_hold() -> None:
    for family, names in FAMILIES.items():
        found = importlib.import_module(f"accrete_learner.methods.{family}").METHODS
        assert tuple(method.name for method in found) == names


def test_the_methods_said_to_begin_anew_are_those_that_do() -> None:
    assert [name for name in available() if begins_anew(name)] == [
        name for name in available() if methods.load(name).restart
    ]


def test_a_closed_form_that_takes_over_another_methods_model_learns_the_old_classes_from_its_exemplars() -> None:
    inputs, outcome = run_steps(configured("lucir"), ({0: 12, 1: 12, 2: 12},))[-1]
    following = next_inputs(inputs, outcome, {3: 12}, 2)
    taken_over = run_method_step(
        following, configured("ranpac"), progress=lambda *_: None, generator=torch.Generator().manual_seed(1)
    )
    scores = taken_over.head(evaluate.extract(taken_over.backbone, inputs.new_x))
    assert (scores.argmax(1) == inputs.new_y).float().mean() > 0.8
