"""One incremental step: data flows through build, train, rebalance, memory and head; the method names each choice.

Shapes: N new examples, E exemplars, d feature length, O classes known before the step, C classes in all.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from accrete_learner import augment, evaluate, heads, memory
from accrete_learner.augment import Augmentation
from accrete_learner.backbones import Backbone
from accrete_learner.config import RuleChoice, SelectionChoice, TrainingConfig
from accrete_learner.heads import Head
from accrete_learner.memory import Candidates
from accrete_learner.methods.base import Method
from accrete_learner.network import Network
from accrete_learner.precision import resolve_precision
from accrete_learner.train import Report, TrainingSet, train

Progress = Callable[[str, int, int, float], None]
"""Called with the stage, how much of it is done, of how much, and the current loss."""


@dataclass(frozen=True, kw_only=True)
class StepInputs:
    """What a step starts from; all tensors on the generator's device."""

    backbone: Backbone
    """With the parent's weights, or fresh; the step trains it in place."""
    parent_head: Mapping[str, Tensor] | None
    """The parent's `weight` [O, d], `bias` [O] or `scale` [1], and `means` [O, d]; None in a first step."""
    class_count: int
    """C; the first O are the parent's."""
    new_x: Tensor
    """[N, ...] in the model's input form: of new classes, and of known ones that got more."""
    new_y: Tensor
    """[N] int64 class indices."""
    exemplar_x: Tensor
    """[E, ...]."""
    exemplar_y: Tensor
    """[E] int64; a class's exemplars in rank order."""
    quota: int
    """Exemplars that a class may keep after the step."""
    training: TrainingConfig = field(default=TrainingConfig())
    rule: RuleChoice = ""
    selection: SelectionChoice = ""

    @property
    def old_count(self) -> int:
        """O."""
        return 0 if self.parent_head is None else len(self.parent_head["weight"])


@dataclass(frozen=True, kw_only=True)
class StepOutcome:
    """What a step made."""

    backbone: Backbone
    head: Head
    means: Tensor
    """[C, d] unit class means."""
    exemplars: dict[int, Tensor]
    """Class index to indices into `exemplar_x` followed by `new_x`, in rank order; for the classes with new examples,
    and empty for a method without a memory."""
    rule: Literal["head", "nme"]
    losses: list[float]
    """Of each epoch of training, then of rebalancing."""
    stage_seconds: dict[str, float]

    @property
    def epochs(self) -> int:
        """Epochs run, rebalancing included."""
        return len(self.losses)


def run_step(inputs: StepInputs, method: Method, *, progress: Progress, generator: torch.Generator) -> StepOutcome:
    """Run one step of any shape: any number of new classes, none too, and classes of any size from one example up.

    Raises:
        ValueError: without a new example, or when the head cannot grow to `class_count`.
        TrainingDivergedError: when the loss stops being finite.
    """
    method = method.configured(inputs.training, rule=inputs.rule, selection=inputs.selection)
    clock = _Clock()
    with clock.stage("build"):
        bench = _build(inputs, method, generator)
    with clock.stage("train"):
        losses = _train(bench, method, _report(progress, "train"))
    with clock.stage("rebalance"):
        losses += _rebalance(bench, method, _report(progress, "rebalance"))
    with clock.stage("memory"):
        exemplars = _choose(bench, method)
    with clock.stage("head"):
        means = _class_means(bench, exemplars)
    return StepOutcome(
        backbone=inputs.backbone,
        head=bench.network.head,
        means=means,
        exemplars=exemplars,
        rule=method.rule,
        losses=losses,
        stage_seconds=clock.seconds,
    )


@dataclass(frozen=True, kw_only=True)
class _Bench:
    """What the stages of one step work on."""

    inputs: StepInputs
    network: Network
    teacher: Network | None
    candidates: Candidates
    augmentation: Augmentation
    generator: torch.Generator

    @property
    def new_count(self) -> int:
        return self.inputs.class_count - self.inputs.old_count

    def features(self) -> Tensor:
        """[M, d] of all candidates under the network as it is now."""
        return evaluate.extract(self.network.backbone, self.candidates.x)

    def training_set(self, index: Tensor | None = None) -> TrainingSet:
        """All candidates, or those at `index`, which may repeat."""
        chosen = slice(None) if index is None else index.to(self.candidates.y.device)
        x, y, fresh = self.candidates.x[chosen], self.candidates.y[chosen], self.candidates.fresh[chosen]
        return TrainingSet(x=x, y=y, fresh=fresh)


def _build(inputs: StepInputs, method: Method, generator: torch.Generator) -> _Bench:
    """The network with its grown head, the teacher, and the examples that the method may use."""
    autocast = resolve_precision(inputs.training.precision, generator.device) == "bfloat16"
    head = heads.grow(
        method.head,
        inputs.parent_head,
        feature_length=inputs.backbone.feature_length,
        class_count=inputs.class_count,
        generator=generator,
    )
    teacher = None
    if inputs.parent_head is not None:
        teacher = Network(inputs.backbone, heads.restore(inputs.parent_head), autocast=autocast).teacher()
        if method.head.imprint:
            heads.imprint(head, evaluate.extract(teacher.backbone, inputs.new_x), inputs.new_y)
    return _Bench(
        inputs=inputs,
        network=Network(inputs.backbone, head, autocast=autocast),
        teacher=teacher,
        candidates=_candidates(inputs, with_exemplars=method.selection is not None),
        augmentation=augment.build(inputs.training.augmentation),
        generator=generator,
    )


def _candidates(inputs: StepInputs, *, with_exemplars: bool) -> Candidates:
    if not len(inputs.new_y):
        raise ValueError("a step needs at least one new example")
    if not with_exemplars:
        return Candidates(x=inputs.new_x, y=inputs.new_y, kept_count=0)
    x = torch.cat((inputs.exemplar_x, inputs.new_x))
    y = torch.cat((inputs.exemplar_y, inputs.new_y))
    return Candidates(x=x, y=y, kept_count=len(inputs.exemplar_y))


def _train(bench: _Bench, method: Method, report: Report) -> list[float]:
    old_count = bench.inputs.old_count
    return train(
        bench.network,
        bench.training_set(),
        [term for term in method.terms if term.applies(old_count, bench.new_count)],
        method.increment if old_count else method.base,
        augmentation=bench.augmentation,
        generator=bench.generator,
        report=report,
        teacher=bench.teacher,
    )


def _rebalance(bench: _Bench, method: Method, report: Report) -> list[float]:
    """A first step has nothing to balance against, and a memory that may hold nothing has nothing to balance with."""
    if bench.teacher is None or bench.inputs.quota == 0:
        return []
    return method.rebalance(
        bench.network,
        lambda: bench.training_set(memory.balanced(_whole_memory(bench, _choose(bench, method)))),
        augmentation=bench.augmentation,
        generator=bench.generator,
        report=report,
    )


def _choose(bench: _Bench, method: Method) -> dict[int, Tensor]:
    if method.selection is None:
        return {}
    quota, generator = bench.inputs.quota, bench.generator
    return memory.choose(bench.candidates, bench.features(), name=method.selection, quota=quota, generator=generator)


def _whole_memory(bench: _Bench, chosen: dict[int, Tensor]) -> list[Tensor]:
    inputs = bench.inputs
    return memory.complete(bench.candidates, chosen, quota=inputs.quota, class_count=inputs.class_count)


def _class_means(bench: _Bench, chosen: dict[int, Tensor]) -> Tensor:
    """Means over the memory; over a class's new examples where it keeps none; else the parent's, or the head's row."""
    candidates, parent = bench.candidates, bench.inputs.parent_head or {}
    fallback = bench.network.head.weight.detach().clone()
    if "means" in parent:
        fallback[: len(parent["means"])] = parent["means"]
    stand_ins = memory.with_fresh(_whole_memory(bench, chosen), candidates)
    x = candidates.x[torch.cat(stand_ins)]
    features, mirrored = evaluate.extract(bench.network.backbone, x), None
    if bench.augmentation.flips and x.dim() == 4:
        mirrored = evaluate.extract(bench.network.backbone, x.flip(2))
    return memory.means([len(index) for index in stand_ins], features, mirrored, fallback)


def _report(progress: Progress, stage: str) -> Report:
    return lambda done, total, loss: progress(stage, done, total, loss)


class _Clock:
    """Wall time by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - started
