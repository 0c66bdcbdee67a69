"""The loop that trains. All methods share it; what they differ in comes to it as values.

Shapes: N examples, [N, ...] inputs in the model's own form (uint8 [N, H, W, C] or float32 [N, d]).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from accrete_learner.augment import Augmentation
from accrete_learner.losses import Batch, Term
from accrete_learner.network import Network
from accrete_learner.schedule import Schedule

Report = Callable[[int, int, float], None]
"""Called after each epoch with epochs done, epochs in all, and the epoch's mean loss."""


class TrainingDivergedError(RuntimeError):
    """The loss stopped being a number; a smaller learning rate is the usual cure."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingSet:
    """Examples on the training device."""

    x: Tensor
    """[N, ...] in the model's input form."""
    y: Tensor
    """[N] int64 class indices."""
    fresh: Tensor
    """[N] bool: came for this step, as against exemplars kept from before."""

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
    teacher: Network | None = None,
    train_backbone: bool = True,
) -> list[float]:
    """Train `network` in place on the sum of `terms`; afterwards it is in evaluation mode.

    Args:
        data: at least one example, on the generator's device.
        terms: only such as apply to this step.
        teacher: the network as it was before the step, for terms that ask for it.
        train_backbone: False leaves the backbone as it is, its batch statistics included, and trains the head alone.

    Returns:
        The mean loss of each epoch.

    Raises:
        ValueError: when there is nothing to train on.
        TrainingDivergedError: when an epoch's loss is not finite.
    """
    if not len(data):
        raise ValueError("a training run needs at least one example")
    network.backbone.requires_grad_(train_backbone)
    network.train()
    network.backbone.train(train_backbone)
    optimizer = _sgd(network, schedule)
    losses = []
    for epoch in range(schedule.epochs):
        total = torch.zeros((), device=data.y.device)
        batches = list(epoch_batches(len(data), schedule.batch_size, generator))
        for position, index in enumerate(batches):
            _set_rate(optimizer, schedule.rate(epoch + position / len(batches)))
            x = augmentation.apply(data.x[index], generator)
            batch = _look(network, teacher, x, data.y[index], data.fresh[index])
            loss = torch.stack([term(batch) for term in terms]).sum()
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimizer.step()
            total += loss.detach()
        losses.append(_checked(total.item() / len(batches), epoch))
        report(epoch + 1, schedule.epochs, losses[-1])
    network.backbone.requires_grad_(True)
    network.eval()
    return losses


def epoch_batches(count: int, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Indices of one epoch in random order, in batches as equal as can be and of two examples or more.

    Batch normalisation cannot train on one example, so a remainder is spread over the batches instead of left alone at
    the end, and a single example is taken twice.
    """
    order = torch.randperm(count, generator=generator, device=generator.device)
    if count == 1:
        order = order.repeat(2)
    batches = min(math.ceil(len(order) / batch_size), len(order) // 2)
    yield from order.tensor_split(batches)


def _look(network: Network, teacher: Network | None, x: Tensor, y: Tensor, fresh: Tensor) -> Batch:
    """Both networks' view of one augmented batch."""
    prepared = network.backbone.prepare(x)
    features, scores = network(prepared)
    teacher_features, teacher_scores = None, None
    if teacher is not None:
        with torch.no_grad():
            teacher_features, teacher_scores = teacher(prepared)
    return Batch(
        features=features,
        scores=scores,
        rows=network.head.weight,
        labels=y,
        fresh=fresh,
        old_count=len(network.head.old_rows),
        teacher_features=teacher_features,
        teacher_scores=teacher_scores,
    )


def _sgd(network: Network, schedule: Schedule) -> torch.optim.SGD:
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    return torch.optim.SGD(
        trained, lr=schedule.learning_rate, momentum=schedule.momentum, weight_decay=schedule.weight_decay
    )


def _set_rate(optimizer: torch.optim.SGD, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def _checked(loss: float, epoch: int) -> float:
    if not math.isfinite(loss):
        raise TrainingDivergedError(f"the loss of epoch {epoch + 1} is {loss}; try a smaller learning rate")
    return loss
