"""Images optimised until the network's outputs and batch-norm statistics match those on its training data.

Source: Yin et al., Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion (CVPR 2020), section 3.
Shapes: E exemplars, H x W pixels, C channels, K classes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from accrete_learner.ranks import Group, Shard
from accrete_learner.ranks.batch_norm import combined
from accrete_learner.synthesis.base import SYNTHESISED, Exemplars, Picked
from accrete_learner.training.network import Network

#: Iterations between two reports: reading a loss makes a GPU wait.
_REPORT_EVERY = 20


@dataclass(frozen=True, kw_only=True)
class Inversion:
    """DeepInversion, and with `adaptive` its adaptive form.

    It minimises cross-entropy + `features` * R_feature (equation 4) + `variation` * R_TV + `norm` * R_l2 (equation 3)
    over the images with Adam. Each iteration moves and mirrors the images a little.
    """

    start: Literal["noise", "images", "herding"]
    """What the images start as, which is normal noise, random examples of the class, or those that herding picked."""
    adaptive: bool = False
    """Add the competition term (equation 6), which favours images on which the network and the one before the step
    disagree. In a first step there is none before, and the term is left out."""
    iterations: int = 100
    """The paper takes 2,000 (supplement), which is too long for a CPU."""
    rate: float = 0.1
    """Adam's learning rate in units of normalised pixels, as in the authors' code for CIFAR-10."""
    features: float = 0.1
    """Weight of R_feature. With the authors' 10, cross-entropy has no effect in a hundred iterations. On CIFAR-100
    classes with ResNet-32, 150 iterations gave 40 images, of which the network recognised 1 as its class with 10, 13
    with 1 and all with 0.1."""
    variation: float = 1e-3
    """Weight of R_TV, as in the authors' code for CIFAR-10."""
    norm: float = 3e-8
    """Weight of R_l2 (section 4.1)."""
    competition: float = 10.0
    """Weight of R_compete (section 4.1, alpha_c = 10)."""
    batch_size: int = 256
    """Images made at a time. Their batch statistics are compared with those of training, and their activations are held
    in memory."""

    def __call__(self, picked: Picked) -> dict[int, Exemplars]:
        """Return images of the fresh classes, as many as were picked of each.

        Raises:
            ValueError: for vectors, which are no images.
        """
        if picked.candidates.x.dim() != 4:
            raise ValueError(f"inversion makes images [N, H, W, C]; the examples are {list(picked.candidates.x.shape)}")
        labels = [label for label in picked.fresh_classes if len(picked.memory[label])]
        if not labels:
            return {}
        sources = [self._sources(picked, label) for label in labels]
        y = torch.cat([torch.full_like(own, label) for own, label in zip(sources, labels, strict=True)])
        source = torch.cat(sources)
        # The classes are mixed, so that each batch has the statistics of many, as in training.
        order = torch.randperm(len(y), generator=picked.generator, device=picked.generator.device).to(y.device)
        made = torch.empty_like(picked.candidates.x[source])
        batches = torch.split(order, self.batch_size)
        for number, index in enumerate(batches):
            start = picked.candidates.x[source[index]]
            made[index] = self._make(picked, start, y[index], done=number, batches=len(batches)).to(made.dtype)
        kept = source if self.start == "herding" else torch.full_like(source, SYNTHESISED)
        started = {label: source[y == label, None] if self.start == "images" else None for label in labels}
        return {label: Exemplars(x=made[y == label], source=kept[y == label], shown=started[label]) for label in labels}

    def _sources(self, picked: Picked, label: int) -> Tensor:
        """Return the indices of the examples to start from. Noise uses their number alone."""
        first = picked.memory[label]
        if self.start != "images":
            return first
        own = (picked.candidates.y == label).nonzero().squeeze(1)
        order = torch.randperm(len(own), generator=picked.generator, device=picked.generator.device)
        return own[order.to(own.device)][: len(first)]

    def _make(self, picked: Picked, start: Tensor, y: Tensor, *, done: int, batches: int) -> Tensor:
        """Return images [n, H, W, C] from 0 to 255, rounded, made from as many starting images."""
        backbone, generator = picked.network.backbone, picked.generator
        x = backbone.prepare(start).detach()
        if self.start == "noise":
            x = torch.randn(x.shape, generator=generator, device=generator.device).to(x.device)
        # All inputs of a server are within these bounds, so the images must be too.
        low, high = backbone.shift, 255 * backbone.scale + backbone.shift
        shard = picked.group.shard(len(x))
        x = x[shard.rows].requires_grad_(True)
        optimizer = torch.optim.Adam([x], lr=self.rate)
        with _statistics_distances(picked.network, picked.group) as distances:
            for iteration in range(self.iterations):
                loss = self._loss(picked, _jittered(x, generator), y, distances, shard)
                optimizer.zero_grad(set_to_none=True)
                torch.autograd.backward(loss, inputs=[x])
                optimizer.step()
                with torch.no_grad():
                    x.clamp_(low, high)
                if (iteration + 1) % _REPORT_EVERY == 0:
                    steps = done * self.iterations + iteration + 1
                    picked.report(steps, batches * self.iterations, loss.item())
        pixels = (shard.gather(x.detach()) - backbone.shift) / backbone.scale
        if start.shape[3] == 1:
            # A grey image for a colour network has three channels after `prepare`.
            pixels = pixels.mean(dim=1, keepdim=True)
        return pixels.permute(0, 2, 3, 1).round().clamp(0, 255)

    def _loss(self, picked: Picked, own: Tensor, y: Tensor, distances: list[Tensor], shard: Shard) -> Tensor:
        """Return the loss of all images, of which a rank computes the features of its own alone."""
        distances.clear()
        features = shard.gather(picked.network.backbone.features_from(own).float())
        scores = picked.network.head(features)
        x = shard.gather(own)
        loss: Tensor = (
            F.cross_entropy(scores, y) + self.variation * _variation(x) + self.norm * torch.linalg.vector_norm(x)
        )
        if distances:
            loss = loss + self.features * torch.stack(distances).sum()
        if self.adaptive and picked.teacher is not None:
            loss = loss + self.competition * (1 - self._agreement(picked.teacher, own, scores, shard))
        return loss

    def _agreement(self, teacher: Network, own: Tensor, scores: Tensor, shard: Shard) -> Tensor:
        """Return the Jensen-Shannon divergence, 0 to 1, of both networks' outputs over the classes that both know."""
        before = teacher.head(shard.gather(teacher.backbone.features_from(own).float()))
        after, other = scores[:, : before.shape[1]].softmax(1), before.softmax(1)
        middle = ((after + other) / 2).clamp(min=1e-7).log()
        divergence = F.kl_div(middle, after, reduction="batchmean") + F.kl_div(middle, other, reduction="batchmean")
        return (0.5 * divergence).clamp(0, 1)


@contextmanager
def _statistics_distances(network: Network, group: Group) -> Iterator[list[Tensor]]:
    """Collect at every forward pass the terms of R_feature (equation 4), one per batch normalisation.

    Each is the distance of the batch's mean and variance from the running ones.
    """
    distances: list[Tensor] = []

    def measure(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(module, nn.BatchNorm2d)
        values = inputs[0].float()
        if module.running_mean is not None and module.running_var is not None:
            mean, variance = _moments(values, group)
            distances.append((mean - module.running_mean).norm() + (variance - module.running_var).norm())

    handles = [
        module.register_forward_hook(measure)
        for module in network.backbone.modules()
        if isinstance(module, nn.BatchNorm2d)
    ]
    try:
        yield distances
    finally:
        for handle in handles:
            handle.remove()


def _moments(values: Tensor, group: Group) -> tuple[Tensor, Tensor]:
    """Return mean and variance [C] of all ranks' [n, C, H, W], with a gradient."""
    if group.size == 1:
        return values.mean(dim=(0, 2, 3)), values.var(dim=(0, 2, 3), unbiased=False)
    count = values.numel() // values.shape[1]
    mean = values.sum(dim=(0, 2, 3)) / max(1, count)
    variance = (values - mean[:, None, None]).square().sum(dim=(0, 2, 3)) / max(1, count)
    return combined(group.rows(torch.stack((torch.full_like(mean, count), mean, variance))))


def _jittered(x: Tensor, generator: torch.Generator) -> Tensor:
    """Roll the images by up to a sixteenth of their size and mirror them at random, all alike (supplement)."""
    reach = max(1, x.shape[2] // 16)
    draws = torch.randint(0, 2 * reach + 1, (2,), generator=generator, device=generator.device).tolist()
    rolled = torch.roll(x, (draws[0] - reach, draws[1] - reach), dims=(2, 3))
    mirrored = bool(torch.randint(2, (), generator=generator, device=generator.device))
    return rolled.flip(3) if mirrored else rolled


def _variation(x: Tensor) -> Tensor:
    """Return the total variation, the sum of the lengths of the differences between neighbours in four directions."""
    differences = (
        x[:, :, :, :-1] - x[:, :, :, 1:],
        x[:, :, :-1, :] - x[:, :, 1:, :],
        x[:, :, 1:, :-1] - x[:, :, :-1, 1:],
        x[:, :, :-1, :-1] - x[:, :, 1:, 1:],
    )
    return torch.stack([torch.linalg.vector_norm(difference) for difference in differences]).sum()
