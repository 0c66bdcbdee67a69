"""Run one incremental step of a method on tensors, in the stages build, train, rebalance, memory and head.

The method names the choice for each stage. `trainer.run_job` runs a step from folder to folder through this module.

Shapes: N new examples, E exemplars, d feature length, O classes known before the step, C classes in all.
"""

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from accrete_kit.stopwatch import Stopwatch
from accrete_learner import evaluate, fitting, heads
from accrete_learner.augmentation import augment
from accrete_learner.augmentation.augment import Augmentation
from accrete_learner.backbones import Backbone
from accrete_learner.boosting import Boosting
from accrete_learner.config import Rule
from accrete_learner.heads import Head
from accrete_learner.losses import Term
from accrete_learner.memory import calibration_split, exemplars
from accrete_learner.memory.exemplars import Candidates, Exemplars
from accrete_learner.methods.base import Method
from accrete_learner.progress import Note, Progress, Report, of_stage
from accrete_learner.ranks import ALONE, Group
from accrete_learner.rebalance import Trained
from accrete_learner.rebalance.weight_aligning import align
from accrete_learner.synthesis.recipes import RECIPES, recipe
from accrete_learner.synthesis.step_memory import StepMemory
from accrete_learner.training import two_branches, weight_transfer
from accrete_learner.training.checkpoint import Checkpoint
from accrete_learner.training.loop import TrainingSet, train
from accrete_learner.training.network import Network, Teacher
from accrete_learner.training.schedule import Schedule


@dataclass(frozen=True, kw_only=True)
class StepInputs:
    """What a step starts from. All tensors are on the generator's device."""

    backbone: Backbone
    """The parent's, or a new one in a first step. The step trains it in place."""
    parent_head: Mapping[str, Tensor] | None
    """The parent's head as exported, with `means` [O, d]. None in a first step."""
    class_count: int
    """C. The first O classes are the parent's."""
    new_x: Tensor
    """[N, ...] in the model's input form, of new classes and of known ones that got more examples."""
    new_y: Tensor
    """[N] int64 class indices."""
    exemplar_x: Tensor
    """[E, ...] in the model's input form."""
    exemplar_y: Tensor
    """[E] int64 class indices. Each class's exemplars are in rank order."""
    per_class: int
    """Exemplars that each class may keep after the step."""
    autocast: bool = False
    """Whether the backbone multiplies in bfloat16 during training."""
    compile: bool = False
    """Whether torch.compile makes the network faster before it trains."""
    max_seconds: float = math.inf
    """That training may take; rebalancing and memory come on top."""
    pretrained: bool = False
    """Whether the backbone has weights of its own in a first step, or nothing to train."""
    trained_head: Mapping[str, Tensor] | None = None
    """In a first step that was trained before: the head that training gave. `backbone` is then the trained one."""
    statistics: Mapping[str, Tensor] | None = None
    """What a closed-form method keeps of all examples so far."""

    @property
    def old_count(self) -> int:
        """O."""
        return 0 if self.parent_head is None else len(self.parent_head["weight"])

    @property
    def new_count(self) -> int:
        """C - O."""
        return self.class_count - self.old_count


@dataclass(frozen=True, kw_only=True)
class StepOutcome:
    """What a step made."""

    backbone: Backbone
    head: Head
    means: Tensor
    """[C, d] class means of length 1."""
    exemplars: dict[int, Exemplars]
    """By class index, for the classes whose exemplars the step chose or made anew. Every other class keeps its first
    `per_class`. `source` counts into `exemplar_x` followed by `new_x`. Empty for a method without a memory."""
    rule: Rule
    rule_tensors: dict[str, Tensor]
    """What the rule was fitted to. Empty for `head` and `nme`."""
    statistics: dict[str, Tensor]
    """What a closed-form method keeps of all examples so far. Empty for other methods."""
    losses: list[float]
    """Mean loss per epoch, of training and then of rebalancing."""
    images: int
    """Images that training took, which is examples times epochs without rebalancing."""
    stage_seconds: dict[str, float]
    """Wall seconds per stage."""


def run_method_step(
    inputs: StepInputs,
    method: Method,
    *,
    progress: Progress,
    generator: torch.Generator,
    checkpoint: Checkpoint | None = None,
    note: Note = lambda text: None,
    group: Group = ALONE,
) -> StepOutcome:
    """Run one step of any shape.

    There may be any number of new classes, none included, and any number of examples per class from one up.

    Args:
        inputs: what the step starts from.
        method: configured as it is to run (`methods.configured`).
        progress: called during the stages `train`, `rebalance` and `memory`.
        generator: source of all random numbers; its device is the step's.
        checkpoint: of the stage `train`, so that a step that is run again need not train again. The other stages begin
            anew.
        note: called with what people should know of it.
        group: the ranks that work on it. Each has the same inputs, and a generator with the same seed; each gets the
            same outcome.

    Raises:
        ValueError: without a new example, when the head cannot grow to `class_count`, when the method makes images and
            the examples are vectors, or when the checkpoint is of another training.
        TrainingDivergedError: when the loss stops being finite.
    """
    _check(inputs, method)
    watch = Stopwatch()
    with watch.stage("build"):
        context = _build(inputs, method, generator, group)
    with watch.stage("train"):
        losses = _train(context, of_stage(progress, "train"), checkpoint, note)
        statistics, of_new = _solve_head(context)
    if checkpoint is not None:
        watch.seconds["train"] += checkpoint.seconds_before
    images = len(losses) * context.images_per_epoch
    # The stages from here on must not depend on how many random numbers training drew, because a first step may take
    # over a training that was done before.
    generator.manual_seed(generator.initial_seed() + 1)
    memory = _memory(context, of_stage(progress, "memory"))
    with watch.stage("rebalance"):
        losses += _rebalance(context, memory, of_stage(progress, "rebalance"))
    with watch.stage("memory"):
        changed = memory.changed()
    with watch.stage("head"):
        means, rule_tensors = _fit_rules(context, memory.whole(changed), of_new)
    return StepOutcome(
        backbone=inputs.backbone,
        head=context.network.head,
        means=means,
        exemplars=changed,
        rule=method.rule,
        rule_tensors=rule_tensors,
        statistics=statistics,
        losses=losses,
        images=images,
        stage_seconds=watch.seconds,
    )


def _check(inputs: StepInputs, method: Method) -> None:
    """Refuse before training what could only fail after it."""
    if not len(inputs.new_y):
        raise ValueError("a step needs at least one new example")
    if method.selection is not None and RECIPES[method.selection].synthesis is not None and inputs.new_x.dim() != 4:
        raise ValueError(f"selection {method.selection} makes images; the examples are vectors")


@dataclass(frozen=True, kw_only=True)
class _StepContext:
    """What the stages of one step work on."""

    inputs: StepInputs
    method: Method
    network: Network
    """Trained in place by the stages."""
    teacher: Network | None
    """The network as it was before the step. None in a first step."""
    candidates: Candidates
    calibration_split: Tensor | None
    """Indices of the candidates that training leaves out for the rebalancing. None when it leaves none out."""
    augmentation: Augmentation
    generator: torch.Generator
    group: Group

    @property
    def images_per_epoch(self) -> int:
        """Images of one epoch of training."""
        return len(self.training_set()) * self.schedule.copies

    @property
    def frozen(self) -> bool:
        """Whether training leaves the backbone as it is."""
        return self.method.frozen == "increments" and (self.inputs.pretrained or self.teacher is not None)

    @property
    def schedule(self) -> Schedule:
        """Of this step's training, or of the first of two."""
        return self.method.increment if self.inputs.old_count else self.method.base

    def training_set(self) -> TrainingSet:
        """Return all candidates but the calibration split."""
        trained = torch.ones(len(self.candidates.y), dtype=torch.bool, device=self.candidates.y.device)
        if self.calibration_split is not None:
            trained[self.calibration_split] = False
        return self.candidates_at(trained)

    def candidates_at(self, index: Tensor) -> TrainingSet:
        """Return the candidates at int64 indices or where a bool [M] is true."""
        candidates = self.candidates
        return TrainingSet(x=candidates.x[index], y=candidates.y[index], fresh=candidates.fresh[index])


def _build(inputs: StepInputs, method: Method, generator: torch.Generator, group: Group) -> _StepContext:
    """Return the network with its grown head, the teacher, and the examples that the method may use."""
    candidates = _candidates(inputs, method)
    head = heads.grow(
        method.head,
        inputs.parent_head,
        feature_length=inputs.backbone.feature_length,
        class_count=inputs.class_count,
        generator=generator,
    )
    teacher, split = None, None
    if inputs.parent_head is not None:
        teacher = Network(inputs.backbone, heads.restore(inputs.parent_head), autocast=inputs.autocast).teacher()
        if method.head.imprint:
            heads.imprint(head, evaluate.extract(teacher.backbone, inputs.new_x, group=group), inputs.new_y)
        split = calibration_split.split(candidates, method.rebalance.calibration_share, inputs.old_count, generator)
    # In evaluation mode, so that a step that trains nothing leaves the batch statistics as they are.
    network = Network(inputs.backbone, head, autocast=inputs.autocast).eval()
    if inputs.compile:
        _compile(network, teacher, generator.device)
    return _StepContext(
        inputs=inputs,
        method=method,
        network=network,
        teacher=teacher,
        candidates=candidates,
        calibration_split=split,
        augmentation=augment.build(method.augmentation),
        generator=generator,
        group=group,
    )


def _candidates(inputs: StepInputs, method: Method) -> Candidates:
    if method.selection is None:
        return Candidates(x=inputs.new_x, y=inputs.new_y, kept_count=0)
    x = torch.cat((inputs.exemplar_x, inputs.new_x))
    y = torch.cat((inputs.exemplar_y, inputs.new_y))
    return Candidates(x=x, y=y, kept_count=len(inputs.exemplar_y))


def _compile(network: Network, teacher: Network | None, device: torch.device) -> None:
    # On a GPU this captures graphs, so that small kernels need not be launched one by one.
    mode = "reduce-overhead" if device.type == "cuda" else "default"
    network.compile(mode=mode)
    if teacher is not None:
        teacher.compile(mode=mode)


def _train(context: _StepContext, report: Report, checkpoint: Checkpoint | None, note: Note) -> list[float]:
    """Train the network by gradient descent and return the mean loss per epoch."""
    inputs, method, teacher = context.inputs, context.method, context.teacher
    if inputs.trained_head is not None:
        context.network.head = heads.restore(inputs.trained_head)
        return []
    if context.frozen and method.closed_form is not None:
        return []
    if method.boosting is not None and teacher is not None:
        return _boost_and_compress(context, method.boosting, teacher, report, checkpoint, note)
    return _descend(
        context,
        context.network,
        method.terms,
        context.schedule,
        teacher=teacher,
        report=report,
        checkpoint=checkpoint,
        seconds=inputs.max_seconds,
        note=note,
    )


def _boost_and_compress(
    context: _StepContext,
    boosting: Boosting,
    teacher: Network,
    report: Report,
    checkpoint: Checkpoint | None,
    note: Note,
) -> list[float]:
    """Train a second backbone beside the teacher's, then the step's network to answer as both do together.

    Both are one stage for those who watch: epochs are counted over both.
    """
    inputs, method, schedule = context.inputs, context.method, boosting.compression
    assert inputs.parent_head is not None
    both = two_branches.beside(
        teacher,
        inputs.backbone,
        method.head,
        inputs.parent_head,
        class_count=inputs.class_count,
        generator=context.generator,
    )
    if inputs.compile:
        _compile(both, None, context.generator.device)
    boosting_s, compression_s = boosting.shared(inputs.max_seconds, context.schedule.epochs)
    losses = _descend(
        context,
        both,
        method.terms,
        context.schedule,
        teacher=teacher,
        report=lambda done, total, loss: report(done, total + schedule.epochs, loss),
        checkpoint=checkpoint,
        seconds=boosting_s,
        note=note,
    )
    before = len(losses)
    if boosting.aligned:
        align(both.head)
    return losses + _descend(
        context,
        context.network,
        boosting.terms,
        schedule,
        teacher=both,
        report=lambda done, total, loss: report(before + done, before + total, loss),
        checkpoint=None if checkpoint is None else checkpoint.following(),
        seconds=compression_s,
        note=note,
    )


def _descend(
    context: _StepContext,
    network: Network,
    terms: Sequence[Term],
    schedule: Schedule,
    *,
    teacher: Teacher | None,
    report: Report,
    checkpoint: Checkpoint | None,
    seconds: float,
    note: Note,
) -> list[float]:
    """Train a network on the step's examples, in the way that the method trains backbones."""
    inputs = context.inputs
    transfers = context.method.weight_transfer and context.teacher is not None
    with weight_transfer.scale_and_shift(network.backbone) if transfers else nullcontext():
        return train(
            network,
            context.training_set(),
            [term for term in terms if term.applies(inputs.old_count, inputs.new_count)],
            schedule,
            augmentation=context.augmentation,
            generator=context.generator,
            report=report,
            teacher=teacher,
            train_backbone=not context.frozen,
            checkpoint=checkpoint,
            seconds=seconds,
            note=note,
            group=context.group,
        )


def _solve_head(context: _StepContext) -> tuple[dict[str, Tensor], Tensor | None]:
    """Give the network the head that a closed-form method solves for.

    Returns the statistics to go on from, and the features [N, d] of the new examples; nothing where there is no closed
    form.
    """
    inputs, method, network = context.inputs, context.method, context.network
    if method.closed_form is None:
        return {}, None
    if inputs.parent_head is None:  # later steps go on with what their sums are of
        inputs.backbone.choose_features(method.features)
    features, labels = _features_of_new(context), inputs.new_y
    of_new, whitening = features, inputs.backbone.whitening
    if inputs.statistics is None and inputs.parent_head is not None and len(inputs.exemplar_y):
        # The parent was made by a method that keeps no statistics. Its exemplars are all that is left of the old
        # classes.
        of_exemplars = evaluate.extract(inputs.backbone, inputs.exemplar_x, group=context.group)
        features, labels = torch.cat((of_exemplars, features)), torch.cat((inputs.exemplar_y, labels))
    network.head, statistics = method.closed_form.fit(
        features,
        labels,
        inputs.class_count,
        parent_head=inputs.parent_head,
        statistics=inputs.statistics,
        generator=context.generator,
        unwhitening=None if whitening is None else whitening.unwhitening,
        group=context.group,
    )
    return statistics, of_new


def _features_of_new(context: _StepContext) -> Tensor:
    """Return the features [N, d] of the new examples. In a first step, those of all blocks are whitened by them."""
    inputs, backbone = context.inputs, context.inputs.backbone
    if inputs.parent_head is not None or backbone.whitening is None:
        return evaluate.extract(backbone, inputs.new_x, group=context.group)
    of_blocks = evaluate.extract(backbone, inputs.new_x, compute=backbone.of_all_blocks, group=context.group)
    return backbone.whiten(of_blocks, inputs.new_y, context.group)


def _memory(context: _StepContext, report: Report) -> StepMemory:
    method = context.method
    chosen = None
    if method.selection is not None:
        chosen = recipe(method.selection, iterations=method.synthesis_iterations, pixels=method.exemplar_pixels)
    return StepMemory(
        recipe=chosen,
        per_class=context.inputs.per_class,
        class_count=context.inputs.class_count,
        network=context.network,
        teacher=context.teacher,
        candidates=context.candidates,
        augmentation=context.augmentation,
        generator=context.generator,
        report=report,
        group=context.group,
    )


def _rebalance(context: _StepContext, memory: StepMemory, report: Report) -> list[float]:
    """Correct the bias towards classes with more examples, and return the mean loss per epoch.

    A first step has no old classes to balance against. A memory that may hold nothing has no exemplars to balance with.
    """
    rebalance, split = context.method.rebalance, context.calibration_split
    if context.teacher is None or (rebalance.needs_exemplars and context.inputs.per_class == 0):
        return []
    trained = Trained(
        network=context.network,
        teacher=context.teacher,
        balanced=memory.balanced,
        calibration_split=None if split is None else context.candidates_at(split),
        augmentation=context.augmentation,
        generator=context.generator,
        report=report,
        group=context.group,
    )
    return rebalance(trained)


def _fit_rules(
    context: _StepContext, memory: Sequence[Exemplars], of_new: Tensor | None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the class means [C, d] and the tensors of the method's rule.

    Both are of the memory, and of the new examples of a class that has no exemplars. `of_new` [N, d] are the new
    examples' features under the backbone as it is, where they were computed before.
    """
    of_classes = exemplars.with_fresh(memory, context.candidates)
    x = torch.cat([own.x for own in of_classes])
    counts = [len(own) for own in of_classes]
    if of_new is not None and context.method.selection is None:  # new examples are all that a class can have
        features = of_new[torch.cat([own.source for own in of_classes])]
    else:
        features = evaluate.extract(context.inputs.backbone, x, group=context.group)
    mirrored = None
    if context.augmentation.flips and x.dim() == 4:
        mirrored = evaluate.extract(context.inputs.backbone, x.flip(2), group=context.group)
    means = exemplars.means(counts, features, mirrored, _fallback_means(context))
    rule = context.method.rule
    if rule in ("head", "nme"):
        return means, {}
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts)).to(features.device)
    return means, fitting.fit(rule, features, labels, class_count=len(counts), generator=context.generator)


def _fallback_means(context: _StepContext) -> Tensor:
    """Return [C, d] of the parent's means, and the head's rows for classes that the parent does not know."""
    parent, length = context.inputs.parent_head or {}, context.inputs.backbone.feature_length
    weight = context.network.head.weight.detach()
    fallback = weight.clone() if weight.shape[1] == length else weight.new_zeros(len(weight), length)
    if "means" in parent:
        fallback[: len(parent["means"])] = parent["means"]
    return fallback
