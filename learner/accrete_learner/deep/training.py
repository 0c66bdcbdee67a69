"""Training of all layers in a time that is given.

SGD with a warm-up and half a cosine (Loshchilov and Hutter, SGDR, ICLR 2017), a cosine head that begins at the class
means, smoothed labels (Szegedy et al., Rethinking the Inception Architecture, CVPR 2016), crops of many sizes and
mirror images. The rate follows the time that is left, so that it comes to nothing however fast the machine turns out
to be.

Shapes: N images of a batch, n in all, S pixels of height and width, d feature length, C classes.
"""

import math
import time
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from accrete_learner.deep.images import Images
from accrete_learner.heads import CosineHead
from accrete_learner.progress import Report
from accrete_learner.training.loop import TrainingDivergedError, epoch_batches
from accrete_learner.training.network import Network
from accrete_learner.training.sgd import Sgd

BATCH = 32
RATE = 0.003
MOMENTUM = 0.9
WEIGHT_DECAY = 1e-4
WARM_UP = 0.1
"""Share of the training in which the rate rises."""
SMOOTHING = 0.1
SCALE = 16.0
"""Of the cosines at the beginning; it is trained like all else."""
SMALLEST_CROP = 0.5
"""Share of an image's area that a crop has at least."""
#: Batches by which the rate is measured, after as many that are not counted.
_MEASURED = 5


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a training came to."""

    epochs: float
    """Times that each image was taken."""
    fit: float
    """Epochs that the time was found to allow after the first batches, at most those that were asked for."""
    batch_seconds: float
    """Of one batch, in the first ones."""


def train(
    network: Network,
    images: Images,
    rows: NDArray[np.int64],
    y: Tensor,
    *,
    epochs: int,
    seconds: float,
    generator: torch.Generator,
    report: Report,
) -> Trained:
    """Train `network` in place, with the statistics of batch norm that it has, and leave it in evaluation mode.

    Args:
        network: on the device to train on.
        images: from which batches are decoded.
        rows: [n], those to train on.
        y: [n] int64 classes, on the CPU.
        epochs: at most.
        seconds: at most; infinite for no bound.
        generator: source of all random numbers, on the CPU.
        report: called after each batch with images taken, images in all as far as is known, and the loss.

    Raises:
        TrainingDivergedError: when the loss is not finite.
    """
    # With a batch's own statistics in place of those that it serves with, the network would begin at a third of what it
    # answers right, for a few photographs of some classes are not what it was trained with.
    network.eval()
    optimizer = Sgd(network.parameters(), rate=RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY, nesterov=True)
    device = next(network.parameters()).device
    per_epoch = max(1, math.ceil(len(rows) / BATCH))
    clock = _Clock(batches=epochs * per_epoch, seconds=seconds)
    taken, fit = 0, float(epochs)
    while clock.progress < 1:
        for index in epoch_batches(len(rows), BATCH, generator):
            if clock.progress >= 1:
                break
            x = torch.from_numpy(images.batch(rows[index.numpy()])).to(device)
            scores = network(augmented(network.backbone.prepare(x), generator))[1]
            loss = F.cross_entropy(scores, y[index].to(device), label_smoothing=SMOOTHING)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.rate = rate(clock.progress)
            optimizer.step()
            clock.tick()
            taken += len(index)
            if clock.done == 2 * _MEASURED:
                fit = min(fit, clock.batches_in_all / per_epoch)
            value = loss.item()
            if not math.isfinite(value):
                raise TrainingDivergedError(f"the loss is {value} after {taken} images")
            report(taken, max(taken, round(len(rows) * clock.batches_in_all / per_epoch)), value)
    return Trained(epochs=taken / len(rows), fit=fit, batch_seconds=clock.batch_seconds)


def rate(progress: float) -> float:
    """Return the learning rate when so much of the training is done, 0 to 1."""
    if progress < WARM_UP:
        return RATE * (progress + 0.001) / WARM_UP
    return RATE * (1 + math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP))) / 2


def augmented(prepared: Tensor, generator: torch.Generator) -> Tensor:
    """Return images [N, C, S, S] each cropped to a part of it, scaled to the whole size, and mirrored by turns."""
    count = len(prepared)
    area = SMALLEST_CROP + (1 - SMALLEST_CROP) * torch.rand(count, generator=generator)
    aspect = torch.exp(math.log(4 / 3) * (2 * torch.rand(count, generator=generator) - 1))
    width, height = (area * aspect).sqrt().clamp(max=1), (area / aspect).sqrt().clamp(max=1)
    across, down = ((1 - side) * (2 * torch.rand(count, generator=generator) - 1) for side in (width, height))
    mirrored = 1 - 2 * torch.randint(2, (count,), generator=generator)
    zero = torch.zeros(count)
    boxes = torch.stack([width * mirrored, zero, across, zero, height, down], dim=1).view(count, 2, 3)
    grid = F.affine_grid(boxes.to(prepared.device), list(prepared.shape), align_corners=False)
    crops: Tensor = F.grid_sample(prepared, grid, padding_mode="reflection", align_corners=False)
    return crops.contiguous(memory_format=torch.channels_last)


def begun(means: Tensor) -> CosineHead:
    """Return the head that training begins with."""
    return CosineHead(means[:0], means, torch.full((1,), SCALE))


class _Clock:
    """How much of a training is done, by its batches or by its time, whichever is nearer to the end."""

    def __init__(self, *, batches: int, seconds: float) -> None:
        self._batches = batches
        self._seconds = seconds
        self._start = time.monotonic()
        self._measured_from = self._start
        self.done = 0

    def tick(self) -> None:
        """Count a batch."""
        self.done += 1
        if self.done == _MEASURED:  # the first ones compile and allocate
            self._measured_from = time.monotonic()

    @property
    def progress(self) -> float:
        return max(self.done / self._batches, (time.monotonic() - self._start) / self._seconds)

    @property
    def batch_seconds(self) -> float:
        counted = self.done - _MEASURED
        now = time.monotonic()
        return (now - self._measured_from) / counted if counted > 0 else (now - self._start) / max(1, self.done)

    @property
    def batches_in_all(self) -> float:
        """Batches that fit, at the rate so far."""
        left = self._seconds - (time.monotonic() - self._start)
        if not math.isfinite(left):
            return self._batches
        return min(self._batches, self.done + max(0.0, left) / max(self.batch_seconds, 1e-9))
