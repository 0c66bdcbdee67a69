"""One incremental step: data flows through build, train, rebalance, memory and head; the method names each choice.

Shapes: N new examples, E exemplars, d feature length, O classes known before the step, C classes in all.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor

from accrete_kit.stopwatch import Stopwatch
from accrete_learner import evaluate, fitting, heads
from accrete_learner.augmentation import augment
from accrete_learner.augmentation.augment import Augmentation
from accrete_learner.backbones import Backbone
from accrete_learner.config import Pixels, Rule, RuleChoice, SelectionChoice, TrainingConfig
from accrete_learner.heads import Head
from accrete_learner.memory import calibration_split, exemplars
from accrete_learner.memory.exemplars import Candidates, Exemplars
from accrete_learner.methods.base import Method
from accrete_learner.rebalance import Trained
from accrete_learner.synthesis.base import Picked
from accrete_learner.synthesis.recipes import RECIPES, Recipe, recipe
from accrete_learner.training import weight_transfer
from accrete_learner.training.loop import Report, TrainingSet, train
from accrete_learner.training.network import Network
from accrete_learner.training.precision import resolve_precision

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
    per_class: int
    """Exemplars that a class may keep after the step."""
    training: TrainingConfig = field(default=TrainingConfig())
    rule: RuleChoice = ""
    selection: SelectionChoice = ""
    synthesis_iterations: int | None = None
    exemplar_pixels: Pixels = "uint8"
    pretrained: bool = False
    """Whether the backbone brought weights of its own to the first step, or has nothing to train."""
    trained_head: Mapping[str, Tensor] | None = None
    """In a first step whose training was done before: the head that it gave, `backbone` being as it left it too."""
    statistics: Mapping[str, Tensor] | None = None
    """What a closed-form method kept of all examples so far."""

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
    exemplars: dict[int, Exemplars]
    """By class index, of the classes whose exemplars are not the first `per_class` of before: `source` counts into
    `exemplar_x` followed by `new_x`. Without entries for a method without a memory."""
    rule: Rule
    rule_tensors: dict[str, Tensor]
    """What the rule was fitted to; empty for `head` and `nme`."""
    statistics: dict[str, Tensor]
    """What a closed-form method keeps of all examples so far; else empty."""
    losses: list[float]
    """Of each epoch of training, then of rebalancing."""
    images: int
    """Images that training took: examples times epochs, without rebalancing."""
    stage_seconds: dict[str, float]


def run_step(inputs: StepInputs, method: Method, *, progress: Progress, generator: torch.Generator) -> StepOutcome:
    """Run one step of any shape: any number of new classes, none too, and classes of any size from one example up.

    Raises:
        ValueError: without a new example, or when the head cannot grow to `class_count`.
        TrainingDivergedError: when the loss stops being finite.
    """
    method = method.configured(inputs.training, rule=inputs.rule, selection=inputs.selection)
    if method.selection is not None and RECIPES[method.selection].synthesis is not None and inputs.new_x.dim() != 4:
        # Told now, not after the training.
        raise ValueError(f"selection {method.selection} makes images; the examples are vectors")
    watch = Stopwatch()
    with watch.stage("build"):
        bench = _build(inputs, method, generator)
    with watch.stage("train"):
        losses, statistics = _train(bench, method, _report(progress, "train"))
    images = len(losses) * bench.epoch_images(method)
    # What follows must not depend on how many random numbers the training drew: it may have been done before.
    generator.manual_seed(generator.initial_seed() + 1)
    keeper = _Keeper(bench, method, _report(progress, "memory"))
    with watch.stage("rebalance"):
        losses += _rebalance(bench, keeper, method, _report(progress, "rebalance"))
    with watch.stage("memory"):
        kept = keeper.final()
    with watch.stage("head"):
        means = _class_means(bench, kept)
        fitted = _fit_rule(bench, kept, method.rule)
    return StepOutcome(
        backbone=inputs.backbone,
        head=bench.network.head,
        means=means,
        exemplars={label: kept[label] for label in keeper.changed},
        rule=method.rule,
        rule_tensors=fitted,
        statistics=statistics,
        losses=losses,
        images=images,
        stage_seconds=watch.seconds,
    )


@dataclass(frozen=True, kw_only=True)
class _Bench:
    """What the stages of one step work on."""

    inputs: StepInputs
    network: Network
    teacher: Network | None
    candidates: Candidates
    kept_back: Tensor | None
    """Candidates that training does not see, because the rebalancing needs such."""
    augmentation: Augmentation
    generator: torch.Generator

    @property
    def new_count(self) -> int:
        return self.inputs.class_count - self.inputs.old_count

    def features(self) -> Tensor:
        """[M, d] of all candidates under the network as it is now."""
        return evaluate.extract(self.network.backbone, self.candidates.x)

    def epoch_images(self, method: Method) -> int:
        """Images of one epoch of training."""
        schedule = method.increment if self.inputs.old_count else method.base
        return len(self.training_set()) * schedule.copies

    def training_set(self, index: Tensor | None = None) -> TrainingSet:
        """All candidates but those kept back, or those at `index`."""
        every = torch.ones(len(self.candidates.y), dtype=torch.bool, device=self.candidates.y.device)
        if self.kept_back is not None:
            every[self.kept_back] = False
        chosen = every if index is None else index
        x, y, fresh = self.candidates.x[chosen], self.candidates.y[chosen], self.candidates.fresh[chosen]
        return TrainingSet(x=x, y=y, fresh=fresh)


def _build(inputs: StepInputs, method: Method, generator: torch.Generator) -> _Bench:
    """The network with its grown head, the teacher, and the examples that the method may use."""
    autocast = resolve_precision(inputs.training.precision, generator.device) == "bfloat16"
    candidates = _candidates(inputs, with_exemplars=method.selection is not None)
    head = heads.grow(
        method.head,
        inputs.parent_head,
        feature_length=inputs.backbone.feature_length,
        class_count=inputs.class_count,
        generator=generator,
    )
    teacher, kept_back = None, None
    if inputs.parent_head is not None:
        teacher = Network(inputs.backbone, heads.restore(inputs.parent_head), autocast=autocast).teacher()
        if method.head.imprint:
            heads.imprint(head, evaluate.extract(teacher.backbone, inputs.new_x), inputs.new_y)
        kept_back = calibration_split.split(candidates, method.rebalance.held_out, inputs.old_count, generator)
    # A step that trains nothing leaves it so: what looks through the network must not change its statistics.
    network = Network(inputs.backbone, head, autocast=autocast).eval()
    if inputs.training.compile:
        mode = "reduce-overhead" if generator.device.type == "cuda" else "default"
        network.compile(mode=mode)
        if teacher is not None:
            teacher.compile(mode=mode)
    return _Bench(
        inputs=inputs,
        network=network,
        teacher=teacher,
        candidates=candidates,
        kept_back=kept_back,
        augmentation=augment.build(method.augmentation),
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


def _train(bench: _Bench, method: Method, report: Report) -> tuple[list[float], dict[str, Tensor]]:
    """Losses by epoch, and what a closed-form method keeps."""
    inputs, network = bench.inputs, bench.network
    frozen = method.frozen == "increments" and (inputs.pretrained or bench.teacher is not None)
    if inputs.trained_head is not None:
        losses: list[float] = []
        network.head = heads.restore(inputs.trained_head)
    elif frozen and method.closed_form is not None:
        losses = []
    else:
        losses = _descend(bench, method, report, train_backbone=not frozen)
    if method.closed_form is None:
        return losses, {}
    features, labels = evaluate.extract(network.backbone, inputs.new_x), inputs.new_y
    if inputs.statistics is None and inputs.parent_head is not None and len(inputs.exemplar_y):
        # Another method's parent kept no sums: its exemplars are all that is left of the old classes.
        kept = evaluate.extract(network.backbone, inputs.exemplar_x)
        features, labels = torch.cat((kept, features)), torch.cat((inputs.exemplar_y, labels))
    network.head, statistics = method.closed_form.fit(
        features,
        labels,
        inputs.class_count,
        parent_head=inputs.parent_head,
        statistics=inputs.statistics,
        generator=bench.generator,
    )
    return losses, statistics


def _descend(bench: _Bench, method: Method, report: Report, *, train_backbone: bool) -> list[float]:
    old_count = bench.inputs.old_count
    schedule = method.increment if old_count else method.base
    transfers = method.weight_transfer and bench.teacher is not None
    with weight_transfer.scale_and_shift(bench.network.backbone) if transfers else nullcontext():
        return train(
            bench.network,
            bench.training_set(),
            [term for term in method.terms if term.applies(old_count, bench.new_count)],
            schedule,
            augmentation=bench.augmentation,
            generator=bench.generator,
            report=report,
            teacher=bench.teacher,
            train_backbone=train_backbone,
        )


def _rebalance(bench: _Bench, keeper: "_Keeper", method: Method, report: Report) -> list[float]:
    """A first step has nothing to balance against, and a memory that may hold nothing has nothing to balance with."""
    if bench.teacher is None or (method.rebalance.needs_exemplars and bench.inputs.per_class == 0):
        return []
    trained = Trained(
        network=bench.network,
        teacher=bench.teacher,
        balanced=keeper.balanced,
        held_out=None if bench.kept_back is None else bench.training_set(bench.kept_back),
        augmentation=bench.augmentation,
        generator=bench.generator,
        report=report,
    )
    return method.rebalance(trained)


class _Keeper:
    """Decides what the memory holds: once, when its exemplars are made; at each asking, when they are picked alone.

    A rebalancing changes what the features of an example are, so picks are picked anew after it (EEIL, section 3.3);
    making exemplars takes as long as training, and they were made for the network as training left it.
    """

    def __init__(self, bench: _Bench, method: Method, report: Report) -> None:
        self._bench = bench
        self._recipe: Recipe | None = None
        if method.selection is not None:
            inputs = bench.inputs
            self._recipe = recipe(
                method.selection, iterations=inputs.synthesis_iterations, pixels=inputs.exemplar_pixels
            )
        self._report = report
        self._made: list[Exemplars] | None = None
        self.changed: tuple[int, ...] = ()

    def final(self) -> list[Exemplars]:
        """The memory of every class after the step."""
        bench, recipe = self._bench, self._recipe
        if self._made is not None:
            return self._made
        if recipe is None:
            return exemplars.taken(bench.candidates, self._complete({}))
        picked = self._complete(self._pick(recipe))
        kept = exemplars.taken(bench.candidates, picked)
        self.changed = tuple(bench.candidates.fresh_classes)
        if recipe.synthesis is None:
            return kept
        made = recipe.synthesis(self._given(picked))
        self.changed = tuple(sorted({*self.changed, *made}))
        self._made = [made.get(label, own) for label, own in enumerate(kept)]
        return self._made

    def balanced(self) -> TrainingSet:
        """Equally many exemplars of every class that has any."""
        x, y, source = exemplars.balanced(self.final())
        return TrainingSet(x=x, y=y, fresh=source >= self._bench.candidates.kept_count)

    def _pick(self, recipe: Recipe) -> dict[int, Tensor]:
        bench = self._bench
        per_class, generator = bench.inputs.per_class, bench.generator
        return exemplars.choose(
            bench.candidates, bench.features(), name=recipe.pick, per_class=per_class, generator=generator
        )

    def _complete(self, chosen: dict[int, Tensor]) -> list[Tensor]:
        inputs = self._bench.inputs
        return exemplars.complete(
            self._bench.candidates, chosen, per_class=inputs.per_class, class_count=inputs.class_count
        )

    def _given(self, picked: Sequence[Tensor]) -> Picked:
        bench = self._bench
        return Picked(
            network=bench.network,
            teacher=bench.teacher,
            candidates=bench.candidates,
            memory=tuple(picked),
            fresh_classes=tuple(bench.candidates.fresh_classes),
            augmentation=bench.augmentation,
            generator=bench.generator,
            report=self._report,
        )


def _class_means(bench: _Bench, kept: Sequence[Exemplars]) -> Tensor:
    """Means over the memory; over a class's new examples where it keeps none; else the parent's, or the head's row."""
    parent, length = bench.inputs.parent_head or {}, bench.inputs.backbone.feature_length
    weight = bench.network.head.weight.detach()
    fallback = weight.clone() if weight.shape[1] == length else weight.new_zeros(len(weight), length)
    if "means" in parent:
        fallback[: len(parent["means"])] = parent["means"]
    stand_ins = exemplars.with_fresh(kept, bench.candidates)
    x = torch.cat([own.x for own in stand_ins])
    features, mirrored = evaluate.extract(bench.network.backbone, x), None
    if bench.augmentation.flips and x.dim() == 4:
        mirrored = evaluate.extract(bench.network.backbone, x.flip(2))
    return exemplars.means([len(own) for own in stand_ins], features, mirrored, fallback)


def _fit_rule(bench: _Bench, kept: Sequence[Exemplars], rule: Rule) -> dict[str, Tensor]:
    """What a rule on exemplars is fitted to: the memory, and the new examples of classes that keep none."""
    if rule in ("head", "nme"):
        return {}
    stand_ins = exemplars.with_fresh(kept, bench.candidates)
    features = evaluate.extract(bench.network.backbone, torch.cat([own.x for own in stand_ins]))
    counts = torch.tensor([len(own) for own in stand_ins])
    labels = torch.arange(len(stand_ins)).repeat_interleave(counts).to(features.device)
    return fitting.fit(rule, features, labels, class_count=len(stand_ins), generator=bench.generator)


def _report(progress: Progress, stage: str) -> Report:
    return lambda done, total, loss: progress(stage, done, total, loss)
