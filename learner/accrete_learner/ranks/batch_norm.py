"""Batch normalisation over the whole batch of a group.

Shapes: n images of this rank, C channels, H x W pixels, M pixels of all ranks together.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from accrete_learner.ranks.group import Group

Numbers: TypeAlias = NDArray[np.float64]


@contextmanager
def over_group(network: nn.Module, group: Group) -> Iterator[None]:
    """Have the batch normalisations of `network` take the statistics of all ranks' images in this block.

    The modules stay what they are, with their parameters, their statistics and their names.
    """
    modules = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d) and group.size > 1]
    for module in modules:
        # An attribute of the instance is called in place of the class's method.
        module.forward = _forward(module, group)  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        for module in modules:
            del module.forward


def _forward(module: nn.BatchNorm2d, group: Group) -> Callable[[Tensor], Tensor]:
    if next(module.buffers()).device.type == "cuda":
        # It shares the module's parameters and statistics.
        synchronised = nn.SyncBatchNorm.convert_sync_batchnorm(module, group.processes)  # type: ignore[no-untyped-call]
        return partial(synchronised.forward)
    return _Layer(module, group).forward


def combined(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean [C] and the variance [C] of all ranks' pixels together, with a gradient where `rows` has one.

    Args:
        rows: [R, 3, C], each rank's number of pixels, their mean and their variance.
    """
    counts, means, variances = rows.unbind(1)
    total = counts.sum(0)
    mean = (counts * means).sum(0) / total
    # Each rank's deviation from its own mean, and that of the means (Chan et al., 1979): no digits cancel.
    variance = (counts * (variances + (means - mean).square())).sum(0) / total
    return mean, variance


class _Layer:
    """A batch normalisation in a group, with all that it needs for a batch at hand.

    Between the pixels of two layers nothing that a number per channel takes is in the processor's caches, so each
    operation costs many times what it costs again and again: there are to be few. They are numpy's, in float64.
    """

    def __init__(self, module: nn.BatchNorm2d, group: Group) -> None:
        self.module, self.group = module, group
        self.weight = module.weight.detach().numpy()
        self.own = np.zeros(1 + 2 * module.num_features)
        """What this rank tells of a batch: its pixels, their mean and their variance."""
        self.sums: Numbers = np.empty((2, module.num_features))
        """What it tells of a gradient."""
        self.parameters = module.weight, module.bias
        self.running = module.running_mean, module.running_var
        self.kept: tuple[NDArray[Any], ...] = ()
        """The numbers of `running`, and how many batches they are of."""
        if module.num_batches_tracked is not None:
            kept = (module.running_mean, module.running_var, module.num_batches_tracked)
            self.kept = tuple(one.numpy() for one in kept if one is not None)
        self._spread: dict[int, NDArray[Any]] = {}

    def forward(self, x: Tensor) -> Tensor:
        """Do what the module's own `forward` does, of all ranks' images."""
        if not self.module.training:
            return nn.BatchNorm2d.forward(self.module, x)
        output: Tensor = _Normalise.apply(x, *self.parameters, self)
        return output

    def moments(self, x: Tensor) -> tuple[float, Numbers]:
        """Return M, and [2, C], mean and variance of all ranks' pixels, for x [n, C, H, W], of which n may be 0."""
        own, channels = self.own, x.shape[1]
        own[0] = x.numel() // channels
        if own[0]:
            # It leaves the module's statistics as they are: their type alone is that of what it returns.
            found = torch.batch_norm_update_stats(x, *self.running, 0.0)
            own[1 : 1 + channels], own[1 + channels :] = found[0].numpy(), found[1].numpy()
        else:
            own[1:] = 0
        rows = self.group.numbers(own)
        counts = rows[:, 0]
        total = float(counts.sum())
        shares = counts / total
        both: Numbers = shares.dot(rows[:, 1:]).reshape(2, channels)
        # Each rank's deviation from its own mean, and that of the means (Chan et al., 1979): no digits cancel.
        both[1] += shares.dot(np.square(rows[:, 1 : 1 + channels] - both[0]))
        return total, both

    def keep(self, count: float, both: Numbers) -> None:
        """Have the module remember the statistics of a batch, as its own `forward` does."""
        if not self.kept:
            return
        mean, variance, batches = self.kept
        batches += 1
        momentum = self.module.momentum
        share = 1 / float(batches) if momentum is None else momentum
        mean += share * (both[0] - mean)
        variance += share * (both[1] * (count / max(count - 1, 1)) - variance)

    def spread(self, factors: tuple[Numbers, ...], width: int) -> Tensor:
        """Return factors [C] of each channel again for each of `width` pixels, [3, width, C], until the next call."""
        if width not in self._spread:
            self._spread[width] = np.empty((3, width, len(factors[0])), self.weight.dtype)
        spread = self._spread[width]
        spread[0], spread[1], spread[2] = factors
        return torch.from_numpy(spread)


class _Normalise(torch.autograd.Function):
    """Batch normalisation by a mean and a variance that depend on all ranks' images."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, layer: _Layer) -> Tensor:
        count, both = layer.moments(x)
        layer.keep(count, both)
        mean, variance = torch.from_numpy(both.astype(layer.weight.dtype)).unbind()
        epsilon = layer.module.eps
        ctx.save_for_backward(x, weight)
        ctx.layer, ctx.count, ctx.by = layer, count, (mean, variance)
        ctx.mean, ctx.inverse = both[0], 1 / np.sqrt(both[1] + epsilon)
        return torch.native_batch_norm(x, weight, bias, mean, variance, False, 0.0, epsilon)[0]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        layer: _Layer = ctx.layer
        if x.numel():
            _, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
                gradient, x, weight, *ctx.by, None, None, False, layer.module.eps, [False, True, True]
            )
        else:  # torch 2.14 crashes
            of_weight, of_bias = torch.zeros_like(weight), torch.zeros_like(weight)
        sums = layer.sums
        sums[0], sums[1] = of_weight.numpy(), of_bias.numpy()
        # What reaches x as if mean and variance were constants, and then through them: for all pixels the same but for
        # a factor on x itself.
        scale = layer.weight * ctx.inverse
        through = np.add.reduce(layer.group.numbers(sums)) * (scale / -ctx.count)
        slope = through[0] * ctx.inverse
        return _combined(layer, (through[1] - slope * ctx.mean, slope, scale), x, gradient), of_weight, of_bias, None


def _combined(layer: _Layer, factors: tuple[Numbers, ...], x: Tensor, gradient: Tensor) -> Tensor:
    """Return `level + slope * x + scale * gradient` [n, C, H, W], where each channel has its three factors."""
    count, channels, height, width = x.shape
    last = torch.channels_last
    if not (x.is_contiguous(memory_format=last) and gradient.is_contiguous(memory_format=last)):
        level, slope, scale = (torch.from_numpy(one).to(x.dtype)[:, None, None] for one in factors)
        return torch.addcmul(level, x, slope).addcmul_(gradient, scale)
    # A row of pixels at a time: what torch does of C numbers at a time takes half as long again.
    row = width * channels
    level, slope, scale = layer.spread(factors, width).to(x.dtype).view(3, row).unbind()
    shape, strides = (count * height, row), (row, 1)
    found = torch.addcmul(level, x.as_strided(shape, strides), slope)
    return found.addcmul_(gradient.as_strided(shape, strides), scale).as_strided(x.shape, x.stride())
