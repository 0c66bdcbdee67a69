"""Mnemonics: exemplars whose pixels are learnt so that a model trained on them alone does well on the class's data.

Source: Liu et al., Mnemonics Training: Multi-Class Incremental Learning without Forgetting (CVPR 2020), section 4 and
algorithm 1. The step's own training is the model-level problem (section 4.2); this is the exemplar-level one
(section 4.3). A temporary model starts as the trained network; the exemplars train it (eq. 8); its loss on what they
stand for is differentiated through that training down to the pixels, which take a step (eq. 9); and again. Exemplars
of old classes, whose data is gone, are split into halves that stand for each other (eq. 10).

Shapes: E exemplars, H x W pixels, C channels.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from accrete_learner.augmentation.augment import Augmentation
from accrete_learner.backbones import Backbone
from accrete_learner.memory.exemplars import Exemplars
from accrete_learner.synthesis.base import Picked
from accrete_learner.synthesis.bilevel import Batch, Loss, Unroll, Weights, hypergradient
from accrete_learner.training.network import Network

#: The rate is halved this many times less one (section 5.1: after every 10 of 50 epochs).
_STAGES = 5

#: Pixel updates between two reports: reading a loss makes a GPU wait.
_REPORT_EVERY = 10


@dataclass(frozen=True, kw_only=True)
class Mnemonics:
    """Exemplars trained by bilevel optimisation.

    The work does not grow with the memory or the step: `iterations` times, for the fresh classes and for each half of
    the old ones, `unroll_steps` steps on `batch_size` exemplars and one look at `outer_batch_size` examples.
    """

    adjust: bool = True
    """Adjust old classes' exemplars too in every step (eq. 10). One that is its class's only exemplar stays as it is,
    for nothing is left to judge it by."""
    iterations: int = 40
    """Pixel updates of each group of exemplars, as many as two CPU cores make with ResNet-32 in about a minute. The
    paper makes 50 epochs of them (section 5.1), which is for a GPU."""
    unroll_steps: int = 2
    """Steps of the temporary model on the exemplars before its loss is taken (eq. 8): two are the fewest in which one
    exemplar acts on what another teaches. The time grows with it."""
    inner_rate: float = 0.002
    """alpha_2 in eq. 8, the temporary model's learning rate. Batch normalisation keeps its statistics inside, so a step
    bears a tenth of what training bears: of 0.0003 to 0.01, on ResNet-32 after the first step of five methods, 0.001
    to 0.003 lowers the loss on the class's data, 0.01 raises it, and beyond that the gradients say nothing."""
    rate: float = 0.25
    """beta in eqs. 9 and 10, about the grey levels of 0 to 255 that a pixel moves in an update at the start; halved
    after each fifth of the updates, as in section 5.1. The paper's plain SGD at 0.01 would need its many epochs, as the
    gradient of a pixel is tiny and of no fixed size; Adam makes a step's length known. Larger ones move the exemplars'
    features away from where their class's are: at 1, the nearest mean lost five points after three steps of CIFAR-100
    that the head did not lose."""
    order: Literal["second", "first"] = "second"
    """`first` leaves the Hessians of the inner training out; see `Unroll`. The paper unrolls in full."""
    truncate: int | None = None
    """Differentiate through the last this many inner steps only; None: all, as in the paper."""
    checkpoint: bool = True
    """Memory for one inner step in place of all of them; see `Unroll`."""
    batch_size: int = 32
    """Exemplars of an inner step; all come equally often."""
    outer_batch_size: int = 64
    """Examples that judge the temporary model, at each update others."""
    augment: bool = True
    """Move and mirror exemplars in the inner training as later trainings will, so far as the step's augmentation does;
    other changes that it makes are left out, as they may not pass gradients on."""
    storage: Literal["uint8", "float16"] = "uint8"
    """How pixels are kept: rounded, one byte; or with a fraction, two bytes."""

    def __call__(self, picked: Picked) -> dict[int, Exemplars]:
        """Exemplars of the fresh classes, and of those old classes that have two or more.

        Batch normalisation uses the statistics that the network serves with, inside too: a few exemplars' own would
        make each pixel change how every other image looks, and a later training on all classes will not have them.

        Raises:
            ValueError: for vectors: a range of 0 to 255 means nothing to them.
            RuntimeError: when torch cannot differentiate the backbone twice; it names the operation (the hard sigmoid
                of torchvision's MobileNetV3 is one).
        """
        x = picked.candidates.x
        if x.dim() != 4:
            raise ValueError(f"mnemonics makes images [N, H, W, C]; the examples are {list(x.shape)}")
        groups = self._groups(picked)
        tune = _Tuner(self, picked)
        tasks = [task for group in groups for task in group.tasks]
        for update in range(self.iterations):
            losses = [tune(task, update) for task in tasks]
            done = update + 1
            if losses and (done % _REPORT_EVERY == 0 or done == self.iterations):
                picked.report(done, self.iterations, torch.stack(losses).mean().item())
        made: dict[int, Exemplars] = {}
        for group in groups:
            made |= group.finished(picked.memory, self.storage)
        return made

    def _groups(self, picked: Picked) -> list["_Group"]:
        fresh = [label for label in picked.fresh_classes if len(picked.memory[label])]
        old = [label for label, own in enumerate(picked.memory) if label not in picked.fresh_classes and len(own) > 1]
        groups = []
        if fresh:
            groups.append(self._fresh(picked, fresh))
        if old and self.adjust:
            groups.append(self._old(picked, old))
        return groups

    def _fresh(self, picked: Picked, labels: Sequence[int]) -> "_Group":
        """New classes' exemplars, judged by the step's new examples (eqs. 8 and 9)."""
        candidates, generator = picked.candidates, picked.generator
        exemplars = self._exemplars(picked, labels)
        judges = candidates.fresh.nonzero().squeeze(1)
        order = _shuffled(len(judges), self.outer_batch_size, generator, candidates.y.device)

        def judge() -> Batch:
            index = judges[next(order)]
            return candidates.x[index].to(exemplars.x.dtype), candidates.y[index]

        everything = torch.ones(len(exemplars.y), dtype=torch.bool, device=exemplars.y.device)
        return _Group(labels=tuple(labels), parts=((everything, exemplars),), tasks=(_Task(exemplars, judge),))

    def _old(self, picked: Picked, labels: Sequence[int]) -> "_Group":
        """Old classes' exemplars in two halves, each judged by the other as it is by then (eq. 10)."""
        whole = self._exemplars(picked, labels)
        halves = [_halved(len(picked.memory[label]), picked.generator) for label in labels]
        in_a = torch.cat(halves).to(whole.y.device)
        a, b = (self._learnt(whole.x[part], whole.y[part], picked) for part in (in_a, ~in_a))
        tasks = (_Task(a, self._judged_by(b, picked)), _Task(b, self._judged_by(a, picked)))
        return _Group(labels=tuple(labels), parts=((in_a, a), (~in_a, b)), tasks=tasks)

    def _judged_by(self, other: "_Learnt", picked: Picked) -> Callable[[], Batch]:
        order = _shuffled(len(other.y), self.outer_batch_size, picked.generator, other.y.device)

        def judge() -> Batch:
            index = next(order)
            return other.x.detach()[index], other.y[index]

        return judge

    def _exemplars(self, picked: Picked, labels: Sequence[int]) -> "_Learnt":
        index = torch.cat([picked.memory[label] for label in labels])
        return self._learnt(picked.candidates.x[index], picked.candidates.y[index], picked)

    def _learnt(self, x: Tensor, y: Tensor, picked: Picked) -> "_Learnt":
        dtype = picked.network.head.new_rows.dtype
        pixels = x.detach().to(dtype, copy=True).requires_grad_()
        return _Learnt(
            x=pixels,
            y=y,
            order=_shuffled(len(y), self.batch_size, picked.generator, y.device),
            optimizer=torch.optim.Adam([pixels], lr=self.rate),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Learnt:
    """Exemplars whose pixels are being learnt."""

    x: Tensor
    """[E, H, W, C] in 0 to 255, a leaf with gradient."""
    y: Tensor
    """[E] int64."""
    order: Iterator[Tensor]
    """Endless; indices of an inner batch."""
    optimizer: torch.optim.Adam


@dataclass(frozen=True, slots=True)
class _Task:
    """Exemplars and what judges a model that was trained on them."""

    learnt: _Learnt
    judge: Callable[[], Batch]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Group:
    """Classes whose exemplars are learnt, together or in halves."""

    labels: tuple[int, ...]
    parts: tuple[tuple[Tensor, _Learnt], ...]
    """Which of the group's exemplars [E] bool each of the parts holds."""
    tasks: tuple[_Task, ...]

    def finished(self, memory: Sequence[Tensor], storage: Literal["uint8", "float16"]) -> dict[int, Exemplars]:
        """The exemplars of each class, in the rank order of what they were made from."""
        sources = [memory[label] for label in self.labels]
        parts = [(part, learnt.x.detach()) for part, learnt in self.parts]
        x = parts[0][1].new_empty(sum(len(source) for source in sources), *parts[0][1].shape[1:])
        for part, pixels in parts:
            x[part] = pixels
        stored = x.round().to(torch.uint8) if storage == "uint8" else x.half()
        split = torch.split(stored, [len(source) for source in sources])
        return {
            label: Exemplars(x=own, source=source)
            for label, own, source in zip(self.labels, split, sources, strict=True)
        }


class _Tuner:
    """One update of some exemplars' pixels: eqs. 8 and 9, or one line of eq. 10."""

    def __init__(self, config: Mnemonics, picked: Picked) -> None:
        self._config = config
        self._generator = picked.generator
        self._loss = loss_of(picked.network)
        self._weights: Weights = {name: weight.detach() for name, weight in picked.network.named_parameters()}
        self._unroll = Unroll(
            rate=config.inner_rate, order=config.order, truncate=config.truncate, checkpoint=config.checkpoint
        )
        moves = picked.augmentation
        self._augmentation = Augmentation(crops=moves.crops and config.augment, flips=moves.flips and config.augment)

    def __call__(self, task: _Task, update: int) -> Tensor:
        """Moves the pixels; the temporary model's loss before that, a scalar on the device."""
        learnt = task.learnt
        inner = [self._inner_batch(learnt) for _ in range(self._config.unroll_steps)]
        # The fast attention kernels cannot be differentiated twice.
        with sdpa_kernel(SDPBackend.MATH):
            loss, gradients = hypergradient(self._loss, self._weights, inner, task.judge(), self._unroll)
        learnt.optimizer.zero_grad(set_to_none=True)
        # A temporary model that diverged says nothing; without this, it would leave its exemplars without a picture.
        finite = [gradient.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0) for gradient in gradients]
        torch.autograd.backward([x for x, _ in inner], finite)
        stage = update * _STAGES // self._config.iterations
        for group in learnt.optimizer.param_groups:
            group["lr"] = self._config.rate * 0.5**stage
        learnt.optimizer.step()
        with torch.no_grad():
            learnt.x.clamp_(0, 255)
        return loss

    def _inner_batch(self, learnt: _Learnt) -> Batch:
        """Moved and mirrored by indexing, so that gradients find their pixels; drawn once, and not again in the
        backward pass."""
        index = next(learnt.order)
        return self._augmentation.apply(learnt.x[index], self._generator), learnt.y[index]


class _Scored(nn.Module):
    """From pixels to scores in the numbers' own type; `Network` would go through bfloat16 or float32."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        """[N, H, W, C] in 0 to 255 -> [N, classes]."""
        scores: Tensor = self.network.head(self.network.backbone.features_from(prepare(self.network.backbone, pixels)))
        return scores


def prepare(backbone: Backbone, pixels: Tensor) -> Tensor:
    """What `backbone.prepare` answers, in the type of the backbone's own numbers: [N, H, W, C] -> [N, C', H, W]."""
    return pixels.permute(0, 3, 1, 2).to(backbone.scale.dtype) * backbone.scale + backbone.shift


def loss_of(network: Network) -> Loss:
    """Cross-entropy of the head's scores, a cosine head's scale included, as a function of the network's weights.

    Buffers are the network's own, and not written to, because it is in evaluation mode.
    """
    scored = _Scored(network)

    def loss(weights: Weights, pixels: Tensor, labels: Tensor) -> Tensor:
        named = {f"network.{name}": weight for name, weight in weights.items()}
        scores: Tensor = functional_call(scored, named, (pixels,))
        return F.cross_entropy(scores, labels)

    return loss


def _shuffled(count: int, size: int, generator: torch.Generator, device: torch.device) -> Iterator[Tensor]:
    """Endless batches of indices of `size` or a little less; each of `count` comes once before any comes again."""
    batches = -(-count // size)
    while True:
        order = torch.randperm(count, generator=generator, device=generator.device).to(device)
        yield from order.tensor_split(batches)


def _halved(count: int, generator: torch.Generator) -> Tensor:
    """[count] bool: true for half of them, drawn."""
    return torch.randperm(count, generator=generator, device=generator.device) < count // 2
