"""The training loop of all methods, which give it their differences as values.

Shapes: N examples, [N, ...] inputs in the model's own form (uint8 [N, H, W, C] or float32 [N, d]).
"""

import math
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim.swa_utils import update_bn

from accrete_kit.spans import in_words
from accrete_learner.augmentation.augment import Augmentation
from accrete_learner.losses import Batch, Term
from accrete_learner.progress import Note, Report
from accrete_learner.ranks import ALONE, Group, Shard
from accrete_learner.ranks.batch_norm import over_group
from accrete_learner.training.checkpoint import Checkpoint, TrainingState
from accrete_learner.training.network import Network, Teacher
from accrete_learner.training.schedule import Schedule
from accrete_learner.training.sgd import Sgd
from accrete_learner.training.weight_average import WeightAverage

#: Batches before those by which the pace is measured, since the first ones compile and allocate; and those.
_UNCOUNTED, _COUNTED = 3, 10


class TrainingDivergedError(RuntimeError):
    """The loss stopped being finite. A smaller learning rate usually helps."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingSet:
    """Examples on the training device."""

    x: Tensor
    """[N, ...] in the model's input form."""
    y: Tensor
    """[N] int64 class indices."""
    fresh: Tensor
    """[N] bool, true for an example that came for this step, false for an exemplar kept from before."""

    def __len__(self) -> int:
        return len(self.y)


def train(
    network: Network,
    data: TrainingSet,
    terms: Sequence[Term],
    schedule: Schedule,
    *,
    augmentation: Augmentation,
    generator: torch.Generator,
    report: Report,
    teacher: Teacher | None = None,
    train_backbone: bool = True,
    statistics: bool = True,
    checkpoint: Checkpoint | None = None,
    seconds: float = math.inf,
    note: Note = lambda text: None,
    group: Group = ALONE,
) -> list[float]:
    """Train `network` in place on the sum of `terms`, and leave it in evaluation mode.

    Args:
        data: at least one example, on the generator's device.
        terms: those that apply to this step.
        schedule: epochs, rates, batch size and gradient noise.
        augmentation: applied to every batch.
        generator: source of all random numbers.
        report: called after each epoch with epochs done, epochs in all, and the epoch's mean loss.
        teacher: the network as it was before the step, or another that scores its classes and more. For the terms that
            need it.
        train_backbone: False leaves the backbone as it is, its batch statistics included, and trains the head alone.
        statistics: False makes batch normalisation use, and keep, the statistics that it serves with.
        checkpoint: where to go on from, and to keep how far it is.
        seconds: that it may take, by the time of its first batches; epochs that do not fit are left out, one at least
            is made.
        note: called with what was left out.
        group: the ranks that train it together. Each takes a share of every batch, and ends with the same weights.

    Returns:
        The mean loss of each epoch.

    Raises:
        ValueError: when there is nothing to train on, or the checkpoint is of another training.
        TrainingDivergedError: when an epoch's loss is not finite.
    """
    if not len(data):
        raise ValueError("a training run needs at least one example")
    network.backbone.requires_grad_(train_backbone)
    network.train()
    network.backbone.train(train_backbone and statistics)
    with over_group(network.backbone, group):
        optimizer = _sgd(network, schedule)
        average = WeightAverage(network) if any(map(schedule.averages, range(schedule.epochs))) else None
        state = TrainingState(network=network, optimizer=optimizer, generator=generator, average=average)
        mirrored = _first_mirrored(data, schedule, augmentation, generator)
        if checkpoint is not None:
            checkpoint.restore(state, schedule.epochs)
        counts = torch.bincount(data.y, minlength=len(network.head.weight))
        pace = _Pace()
        while (epoch := len(state.losses)) < schedule.epochs:
            total = torch.zeros((), device=data.y.device)
            batches = list(epoch_batches(len(data) * schedule.copies, schedule.batch_size, generator))
            noise = schedule.noise(epoch)
            for position, copy in enumerate(batches):
                index = copy % len(data)
                optimizer.rate = schedule.rate(epoch + position / len(batches))
                turns = (epoch * schedule.copies + copy // len(data)) % 2 == 1
                flips = None if mirrored is None else mirrored[index] ^ turns
                shard = group.shard(len(index))
                x = augmentation.apply(data.x[index[shard.rows]], generator, flips, shard)
                batch = _forward(network, teacher, x, data.y[index], data.fresh[index], counts, shard)
                loss = torch.stack([term(batch) for term in terms]).sum()
                optimizer.zero_grad()
                torch.autograd.backward(loss)
                _add_up_gradients(network, group)
                if noise:
                    _add_noise(optimizer.parameters, noise / len(index), generator)
                optimizer.step()
                network.head.constrain()
                if average is not None and schedule.averages(epoch):
                    average.add()
                total += loss.detach()
                if not pace.measured():
                    continue
                fit = max(epoch + 1, group.agreed(pace.epochs(seconds, len(batches))))
                if fit < schedule.epochs:
                    whole = in_words(schedule.epochs * len(batches) * pace.batch_seconds)
                    note(f"{schedule.epochs} epochs would take {whole}; {fit} fit {in_words(seconds)}")
                    schedule = schedule.resized(epochs=fit)
            state.losses.append(_checked(total.item() / len(batches), epoch))
            if checkpoint is not None:
                checkpoint.keep(state, last=epoch + 1 == schedule.epochs)
            report(epoch + 1, schedule.epochs, state.losses[-1])
        if average is not None:
            average.apply()
            _renew_statistics(network, data, schedule, augmentation, generator, group)
    network.backbone.requires_grad_(True)
    network.eval()
    return state.losses


class _Pace:
    """How long a batch takes, by the first ones."""

    def __init__(self) -> None:
        self._done = 0
        self._from_s = 0.0
        self.batch_seconds = 0.0

    def measured(self) -> bool:
        """Count a batch, and return whether it is the one after which the pace is known."""
        self._done += 1
        if self._done == _UNCOUNTED:
            self._from_s = time.monotonic()
        if self._done != _UNCOUNTED + _COUNTED:
            return False
        self.batch_seconds = (time.monotonic() - self._from_s) / _COUNTED
        return True

    def epochs(self, seconds: float, batches: int) -> int:
        """Return how many epochs of so many batches fit, one at least."""
        return max(1, int(min(seconds / max(batches * self.batch_seconds, 1e-9), sys.maxsize)))


def epoch_batches(count: int, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield the indices of one epoch in random order, in batches of about equal size and of two examples or more.

    Batch normalisation cannot train on one example, so a remainder is spread over the batches, and a single example is
    taken twice.
    """
    order = torch.randperm(count, generator=generator, device=generator.device)
    if count == 1:
        order = order.repeat(2)
    batches = min(math.ceil(len(order) / batch_size), len(order) // 2)
    yield from order.tensor_split(batches)


def _first_mirrored(
    data: TrainingSet, schedule: Schedule, augmentation: Augmentation, generator: torch.Generator
) -> Tensor | None:
    """Return [N] bool, which examples the first pass mirrors, where the schedule mirrors them in turns."""
    if not (schedule.alternates_flips and augmentation.flips):
        return None
    return torch.randint(2, (len(data),), generator=generator, device=generator.device) == 1


def _renew_statistics(
    network: Network,
    data: TrainingSet,
    schedule: Schedule,
    augmentation: Augmentation,
    generator: torch.Generator,
    group: Group,
) -> None:
    """Give batch normalisation the statistics of weights that it has not seen, unless it keeps its own."""
    if not network.backbone.training:
        return

    def prepared(index: Tensor) -> Tensor:
        shard = group.shard(len(index))
        return network.backbone.prepare(augmentation.apply(data.x[index[shard.rows]], generator, shard=shard))

    update_bn(map(prepared, epoch_batches(len(data), schedule.batch_size, generator)), network)


def _forward(
    network: Network, teacher: Teacher | None, x: Tensor, y: Tensor, fresh: Tensor, counts: Tensor, shard: Shard
) -> Batch:
    """Return one augmented batch with the outputs of both networks; `x` alone is the rank's share of it."""
    outputs = network.outputs(network.backbone.prepare(x), shard, teacher)
    blocks = network.head.old_blocks
    if outputs.teacher_scores is not None:
        beyond = outputs.teacher_scores.shape[1] - sum(blocks)
        blocks = (*blocks, beyond) if beyond > 0 else blocks
    return Batch(
        features=outputs.features,
        scores=outputs.scores,
        rows=network.rows,
        labels=y,
        fresh=fresh,
        class_counts=counts,
        old_count=len(network.head.old_rows),
        auxiliary_scores=outputs.auxiliary_scores,
        blocks=blocks,
        teacher_features=outputs.teacher_features,
        teacher_scores=outputs.teacher_scores,
        teacher_rows=None if teacher is None else teacher.rows,
    )


def _add_up_gradients(network: Network, group: Group) -> None:
    """Give each rank the gradients of the whole batch: it has those of its share, and the heads' of the whole."""
    if group.size == 1:
        return
    of_backbone: list[Tensor] = []
    of_heads: list[Tensor] = []
    for name, parameter in network.named_parameters():
        if parameter.grad is not None:
            (of_backbone if name.startswith("backbone.") else of_heads).append(parameter.grad)
    # The mean of what all have alike, so that it stays alike to the last bit whatever hardware computed it.
    torch._foreach_div_(of_heads, group.size)
    group.add_up(*of_backbone, *of_heads)


def _sgd(network: Network, schedule: Schedule) -> Sgd:
    return Sgd(
        (parameter for parameter in network.parameters() if parameter.requires_grad),
        rate=schedule.learning_rate,
        momentum=schedule.momentum,
        weight_decay=schedule.weight_decay,
        nesterov=schedule.nesterov,
    )


@torch.no_grad()
def _add_noise(parameters: Iterable[Tensor], deviation: float, generator: torch.Generator) -> None:
    """Add normal noise to every gradient."""
    for parameter in parameters:
        if parameter.grad is not None:
            drawn = torch.empty_like(parameter.grad).normal_(0.0, deviation, generator=generator)
            parameter.grad.add_(drawn)


def _checked(loss: float, epoch: int) -> float:
    if not math.isfinite(loss):
        raise TrainingDivergedError(f"the loss of epoch {epoch + 1} is {loss}; try a smaller learning rate")
    return loss
