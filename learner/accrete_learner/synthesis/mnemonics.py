"""Mnemonics, exemplars whose pixels are learnt so that a model trained on them alone does well on the class's data.

Source: Liu et al., Mnemonics Training: Multi-Class Incremental Learning without Forgetting (CVPR 2020), section 4 and
algorithm 1. The step's own training is the model-level problem (section 4.2). This is the exemplar-level one (section
4.3). A temporary model starts as the trained network and is trained on the exemplars (eq. 8). Its loss on the class's
data is differentiated through that training down to the pixels, which are updated (eq. 9), and so on. Exemplars of old
classes, whose data is gone, are split into halves, and each half is the data of the other (eq. 10).

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

#: The rate is constant in each of this many stages, and halved between them (section 5.1, after every 10 of 50 epochs).
_STAGES = 5

#: Pixel updates between two reports. Reading a loss makes a GPU wait.
_REPORT_EVERY = 10


@dataclass(frozen=True, kw_only=True)
class Mnemonics:
    """Exemplars trained by bilevel optimisation.

    The work does not grow with the memory or the step. It is `iterations` times, for the fresh classes and for each
    half of the old ones, `unroll_steps` steps on `batch_size` exemplars and one loss on `outer_batch_size` examples.
    """

    adjust: bool = True
    """Adjust old classes' exemplars too in every step (eq. 10). A class's only exemplar stays as it is, because there
    is no data left for its loss."""
    iterations: int = 40
    """Pixel updates of each group of exemplars, as many as two CPU cores make with ResNet-32 in about a minute. The
    paper makes 50 epochs of them (section 5.1), which needs a GPU."""
    unroll_steps: int = 2
    """Steps of the temporary model on the exemplars before its loss is taken (eq. 8). Two are the fewest in which one
    exemplar influences the effect of another. The time grows with it."""
    inner_rate: float = 0.002
    """alpha_2 in eq. 8, the temporary model's learning rate. Batch normalisation keeps its statistics in the inner
    training, which therefore needs about a tenth of the usual rate. On ResNet-32 after the first step of five methods,
    0.001 to 0.003 lowered the loss on the class's data, 0.01 raised it, and larger ones gave useless gradients."""
    rate: float = 0.25
    """beta in eqs. 9 and 10, about the grey levels of 0 to 255 that a pixel moves per update at the start. It is halved
    after each fifth of the updates, as in section 5.1. The paper's plain SGD at 0.01 would need its many epochs,
    because the gradient of a pixel is tiny and of no fixed size. Adam fixes the length of an update. Larger rates move
    the exemplars' features away from those of their class. At 1, the nearest mean lost five points after three steps of
    CIFAR-100 that the head did not lose."""
    order: Literal["second", "first"] = "second"
    """`first` leaves out the Hessians of the inner training (see `Unroll`). The paper unrolls in full."""
    truncate: int | None = None
    """Differentiate through the last this many inner steps alone. None: through all, as in the paper."""
    checkpoint: bool = True
    """Hold one inner step in memory in place of all of them (see `Unroll`)."""
    batch_size: int = 32
    """Exemplars per inner step. All come equally often."""
    outer_batch_size: int = 64
    """Examples on which the temporary model's loss is taken, others at each update."""
    augment: bool = True
    """Move and mirror exemplars in the inner training, as the step's augmentation does. Its other changes are left out,
    because they may not pass gradients on."""
    storage: Literal["uint8", "float16"] = "uint8"
    """How pixels are kept, rounded in one byte or with a fraction in two bytes."""

    def __call__(self, picked: Picked) -> dict[int, Exemplars]:
        """Return exemplars of the fresh classes, and of those old classes that have two or more.

        Batch normalisation uses the statistics that the network serves with, in the inner training too. With those of
        a few exemplars each pixel would change the features of every other image, and a later training on all classes
        will not have them.

        Raises:
            ValueError: for vectors, which have no range of 0 to 255.
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
        """Return the group of new classes' exemplars, whose loss is on the step's new examples (eqs. 8 and 9)."""
        candidates, generator = picked.candidates, picked.generator
        exemplars = self._exemplars(picked, labels)
        fresh = candidates.fresh.nonzero().squeeze(1)
        order = _shuffled(len(fresh), self.outer_batch_size, generator, candidates.y.device)

        def outer_batch() -> Batch:
            index = fresh[next(order)]
            return candidates.x[index].to(exemplars.x.dtype), candidates.y[index]

        everything = torch.ones(len(exemplars.y), dtype=torch.bool, device=exemplars.y.device)
        return _Group(labels=tuple(labels), parts=((everything, exemplars),), tasks=(_Task(exemplars, outer_batch),))

    def _old(self, picked: Picked, labels: Sequence[int]) -> "_Group":
        """Return the group of old classes' exemplars in two halves, each with its loss on the other (eq. 10)."""
        whole = self._exemplars(picked, labels)
        halves = [_halved(len(picked.memory[label]), picked.generator) for label in labels]
        in_a = torch.cat(halves).to(whole.y.device)
        a, b = (self._learnt(whole.x[part], whole.y[part], picked) for part in (in_a, ~in_a))
        tasks = (_Task(a, self._outer_of(b, picked)), _Task(b, self._outer_of(a, picked)))
        return _Group(labels=tuple(labels), parts=((in_a, a), (~in_a, b)), tasks=tasks)

    def _outer_of(self, other: "_Learnt", picked: Picked) -> Callable[[], Batch]:
        order = _shuffled(len(other.y), self.outer_batch_size, picked.generator, other.y.device)

        def outer_batch() -> Batch:
            index = next(order)
            return other.x.detach()[index], other.y[index]

        return outer_batch

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
    """Without end, the indices of an inner batch."""
    optimizer: torch.optim.Adam


@dataclass(frozen=True, slots=True)
class _Task:
    """Exemplars, and the data of the loss of a model that is trained on them."""

    learnt: _Learnt
    outer_batch: Callable[[], Batch]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Group:
    """Classes whose exemplars are learnt, together or in halves."""

    labels: tuple[int, ...]
    parts: tuple[tuple[Tensor, _Learnt], ...]
    """Each part with a bool [E] that is true for the group's exemplars in it."""
    tasks: tuple[_Task, ...]

    def finished(self, memory: Sequence[Tensor], storage: Literal["uint8", "float16"]) -> dict[int, Exemplars]:
        """Return the exemplars of each class, in the rank order of the examples that they were made from."""
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
    """Updates the pixels of some exemplars by eqs. 8 and 9, or by one line of eq. 10."""

    def __init__(self, config: Mnemonics, picked: Picked) -> None:
        self._config = config
        self._generator = picked.generator
        self._group = picked.group
        self._loss = loss_of(picked.network)
        self._weights: Weights = {name: weight.detach() for name, weight in picked.network.named_parameters()}
        self._unroll = Unroll(
            rate=config.inner_rate, order=config.order, truncate=config.truncate, checkpoint=config.checkpoint
        )
        moves = picked.augmentation
        self._augmentation = Augmentation(crops=moves.crops and config.augment, flips=moves.flips and config.augment)

    def __call__(self, task: _Task, update: int) -> Tensor:
        """Update the pixels and return the temporary model's loss before that, a scalar on the device."""
        learnt = task.learnt
        inner = [self._inner_batch(learnt) for _ in range(self._config.unroll_steps)]
        # The fast attention kernels cannot be differentiated twice.
        with sdpa_kernel(SDPBackend.MATH):
            loss, gradients = hypergradient(
                self._loss, self._weights, inner, task.outer_batch(), self._unroll, self._group
            )
        learnt.optimizer.zero_grad(set_to_none=True)
        # A temporary model that diverged has no useful gradient. Without this, its pixels would no longer be numbers.
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
        """Return the next batch, moved and mirrored by indexing, so that gradients reach their pixels.

        The changes are drawn once and not again in the backward pass.
        """
        index = next(learnt.order)
        return self._augmentation.apply(learnt.x[index], self._generator), learnt.y[index]


class _Scored(nn.Module):
    """Scores of pixels, in the pixels' own type where `Network` would go through bfloat16 or float32."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the scores [N, classes] of [N, H, W, C] in 0 to 255."""
        scores: Tensor = self.network.head(self.network.backbone.features_from(prepare(self.network.backbone, pixels)))
        return scores


def prepare(backbone: Backbone, pixels: Tensor) -> Tensor:
    """Prepare [N, H, W, C] as `backbone.prepare` does, to [N, C', H, W] in the type of the backbone's own numbers."""
    return pixels.permute(0, 3, 1, 2).to(backbone.scale.dtype) * backbone.scale + backbone.shift


def loss_of(network: Network) -> Loss:
    """Return the cross-entropy of the head's scores, a cosine head's scale included, as a function of the weights.

    Buffers are the network's own, and not written to, because it is in evaluation mode.
    """
    scored = _Scored(network)

    def loss(weights: Weights, pixels: Tensor, labels: Tensor) -> Tensor:
        named = {f"network.{name}": weight for name, weight in weights.items()}
        scores: Tensor = functional_call(scored, named, (pixels,))
        return F.cross_entropy(scores, labels)

    return loss


def _shuffled(count: int, size: int, generator: torch.Generator, device: torch.device) -> Iterator[Tensor]:
    """Yield batches of indices without end, of `size` or a little less, all of `count` before any comes again."""
    batches = -(-count // size)
    while True:
        order = torch.randperm(count, generator=generator, device=generator.device).to(device)
        yield from order.tensor_split(batches)


def _halved(count: int, generator: torch.Generator) -> Tensor:
    """Return bool [count] that is true for half of them, drawn at random."""
    return torch.randperm(count, generator=generator, device=generator.device) < count // 2
