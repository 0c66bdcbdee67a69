"""Exemplars that the network itself remembers: images optimised until it answers, and feels, as with its training data.

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

from accrete_learner.synthesis.base import SYNTHESISED, Exemplars, Picked
from accrete_learner.training.network import Network

#: Iterations between two reports: reading a loss makes a GPU wait.
_REPORT_EVERY = 20


@dataclass(frozen=True, kw_only=True)
class Inversion:
    """DeepInversion, and with `adaptive` its competition between the network and the one before it.

    Minimises cross-entropy + `features` * R_feature (equation 4) + `variation` * R_TV + `norm` * R_l2 (equation 3) over
    the images, with Adam, each time on images moved and mirrored a little.
    """

    start: Literal["noise", "images", "herding"]
    """What the images begin as: normal noise, examples of the class drawn at random, or those that herding picked."""
    adaptive: bool = False
    """Add the competition (equation 6): images on which the network and the one before the step disagree. In a first
    step there is none before, and it is plain DeepInversion."""
    iterations: int = 100
    """The paper takes 2,000 (supplement); these are what a CPU has time for."""
    rate: float = 0.1
    """Adam's, in units of normalised pixels: that of the authors' code for CIFAR-10."""
    features: float = 0.1
    """Of R_feature. The authors' 10 leaves cross-entropy nothing to say in a hundred iterations: on CIFAR-100 classes
    with ResNet-32, 150 of them gave 40 images of which the network took 1 for its class with 10, 13 with 1, all with
    0.1."""
    variation: float = 1e-3
    """Of R_TV: that of the authors' code for CIFAR-10."""
    norm: float = 3e-8
    """Of R_l2 (section 4.1)."""
    competition: float = 10.0
    """Of R_compete (section 4.1, alpha_c = 10)."""
    batch_size: int = 256
    """Images made at a time: their batch statistics stand for a class's, and their activations are held in memory."""

    def __call__(self, picked: Picked) -> dict[int, Exemplars]:
        """Images of the fresh classes, as many as were picked of each, beginning with the classes mixed.

        Raises:
            ValueError: for vectors: there is no image to make.
        """
        if picked.candidates.x.dim() != 4:
            raise ValueError(f"inversion makes images [N, H, W, C]; the examples are {list(picked.candidates.x.shape)}")
        labels = [label for label in picked.fresh_classes if len(picked.memory[label])]
        if not labels:
            return {}
        sources = [self._sources(picked, label) for label in labels]
        y = torch.cat([torch.full_like(own, label) for own, label in zip(sources, labels, strict=True)])
        source = torch.cat(sources)
        # Mixed, so that each batch has the statistics of many classes, as the ones it was trained with had.
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
        """Examples to start from (noise takes their number alone)."""
        first = picked.memory[label]
        if self.start != "images":
            return first
        own = (picked.candidates.y == label).nonzero().squeeze(1)
        order = torch.randperm(len(own), generator=picked.generator, device=picked.generator.device)
        return own[order.to(own.device)][: len(first)]

    def _make(self, picked: Picked, start: Tensor, y: Tensor, *, done: int, batches: int) -> Tensor:
        """[n, H, W, C] of 0 to 255, rounded, from as many starting images."""
        backbone, generator = picked.network.backbone, picked.generator
        x = backbone.prepare(start).detach()
        if self.start == "noise":
            x = torch.randn(x.shape, generator=generator, device=generator.device).to(x.device)
        # Whatever a server may be sent lies within these bounds, and so must what stands for it.
        low, high = backbone.shift, 255 * backbone.scale + backbone.shift
        x.requires_grad_(True)
        optimizer = torch.optim.Adam([x], lr=self.rate)
        with _feeling(picked.network) as felt:
            for iteration in range(self.iterations):
                loss = self._loss(picked, _jittered(x, generator), y, felt)
                optimizer.zero_grad(set_to_none=True)
                torch.autograd.backward(loss, inputs=[x])
                optimizer.step()
                with torch.no_grad():
                    x.clamp_(low, high)
                if (iteration + 1) % _REPORT_EVERY == 0:
                    steps = done * self.iterations + iteration + 1
                    picked.report(steps, batches * self.iterations, loss.item())
        pixels = (x.detach() - backbone.shift) / backbone.scale
        if start.shape[3] == 1:
            # A grey image that the network takes as colour has three channels by now.
            pixels = pixels.mean(dim=1, keepdim=True)
        return pixels.permute(0, 2, 3, 1).round().clamp(0, 255)

    def _loss(self, picked: Picked, x: Tensor, y: Tensor, felt: list[Tensor]) -> Tensor:
        felt.clear()
        features = picked.network.backbone.features_from(x).float()
        scores = picked.network.head(features)
        loss: Tensor = (
            F.cross_entropy(scores, y) + self.variation * _variation(x) + self.norm * torch.linalg.vector_norm(x)
        )
        if felt:
            loss = loss + self.features * torch.stack(felt).sum()
        if self.adaptive and picked.teacher is not None:
            loss = loss + self.competition * (1 - self._agreement(picked.teacher, x, scores))
        return loss

    def _agreement(self, teacher: Network, x: Tensor, scores: Tensor) -> Tensor:
        """Jensen-Shannon divergence of what both networks answer, 0 to 1, over the classes that both know."""
        before = teacher.head(teacher.backbone.features_from(x).float())
        own, other = scores[:, : before.shape[1]].softmax(1), before.softmax(1)
        middle = ((own + other) / 2).clamp(min=1e-7).log()
        divergence = F.kl_div(middle, own, reduction="batchmean") + F.kl_div(middle, other, reduction="batchmean")
        return (0.5 * divergence).clamp(0, 1)


@contextmanager
def _feeling(network: Network) -> Iterator[list[Tensor]]:
    """Collects, at every forward pass, how far each batch normalisation's input is from what it has seen in training.

    R_feature, equation 4: the distances of batch mean and variance from the running ones.
    """
    felt: list[Tensor] = []

    def feel(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(module, nn.BatchNorm2d)
        values = inputs[0].float()
        if module.running_mean is not None and module.running_var is not None:
            mean, variance = values.mean(dim=(0, 2, 3)), values.var(dim=(0, 2, 3), unbiased=False)
            felt.append((mean - module.running_mean).norm() + (variance - module.running_var).norm())

    handles = [
        module.register_forward_hook(feel)
        for module in network.backbone.modules()
        if isinstance(module, nn.BatchNorm2d)
    ]
    try:
        yield felt
    finally:
        for handle in handles:
            handle.remove()


def _jittered(x: Tensor, generator: torch.Generator) -> Tensor:
    """Rolled by up to a sixteenth of its size and mirrored at random, all images alike (supplement)."""
    reach = max(1, x.shape[2] // 16)
    draws = torch.randint(0, 2 * reach + 1, (2,), generator=generator, device=generator.device).tolist()
    rolled = torch.roll(x, (draws[0] - reach, draws[1] - reach), dims=(2, 3))
    mirrored = bool(torch.randint(2, (), generator=generator, device=generator.device))
    return rolled.flip(3) if mirrored else rolled


def _variation(x: Tensor) -> Tensor:
    """Total variation: lengths of the differences between neighbours in four directions."""
    differences = (
        x[:, :, :, :-1] - x[:, :, :, 1:],
        x[:, :, :-1, :] - x[:, :, 1:, :],
        x[:, :, 1:, :-1] - x[:, :, :-1, 1:],
        x[:, :, :-1, :-1] - x[:, :, 1:, 1:],
    )
    return torch.stack([torch.linalg.vector_norm(difference) for difference in differences]).sum()
