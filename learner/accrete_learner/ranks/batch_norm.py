"""Batch normalisation over the whole batch of a group.

Shapes: n images of this rank, C channels, H x W pixels, M pixels of all ranks together.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from accrete_learner.ranks.group import Group


@contextmanager
def over_group(network: nn.Module, group: Group) -> Iterator[None]:
    """Have the batch normalisations of `network` take the statistics of all ranks' images in this block.

    The modules stay what they are, with their parameters, their statistics and their names.
    """
    modules = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d) and group.size > 1]
    for module in modules:
        # An attribute of the instance is called in place of the class's method.
        module.forward = _forward(module, group)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for module in modules:
            del module.forward


def _forward(module: nn.BatchNorm2d, group: Group) -> partial[Tensor]:
    if next(module.buffers()).device.type == "cuda":
        # It shares the module's parameters and statistics.
        synchronised = nn.SyncBatchNorm.convert_sync_batchnorm(module, group.processes)  # type: ignore[no-untyped-call]
        return partial(synchronised.forward)
    return partial(_normalised, module, group)


def moments(x: Tensor, group: Group) -> tuple[Tensor, Tensor, Tensor]:
    """Return the mean [C] and the variance [C] over all ranks' pixels, without a gradient, and M, a scalar.

    Args:
        x: [n, C, H, W], of which n may be 0.
        group: whose images they are.
    """
    own = x.new_zeros(3, x.shape[1], dtype=torch.promote_types(x.dtype, torch.float32))
    if len(x):
        own[0] = x.numel() / x.shape[1]
        # It is given statistics to leave as they are, for their type is that of what it returns.
        own[1:] = torch.stack(torch.batch_norm_update_stats(x, own[1].clone(), own[2].clone(), 0.0))
    return combined(group.rows(own))


def combined(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the mean [C] and the variance [C] of all ranks' pixels together, and M, a scalar.

    Args:
        rows: [R, 3, C], each rank's number of pixels, their mean and their variance.
    """
    counts, means, variances = rows.unbind(1)
    total = counts.sum(0)
    mean = (counts * means).sum(0) / total
    # Each rank's deviation from its own mean, and that of the means (Chan et al., 1979): no digits cancel.
    variance = (counts * (variances + (means - mean).square())).sum(0) / total
    return mean, variance, total[0]


def _normalised(module: nn.BatchNorm2d, group: Group, x: Tensor) -> Tensor:
    """Do what the module's own `forward` does, of all ranks' images."""
    if not module.training:
        return nn.BatchNorm2d.forward(module, x)
    with torch.no_grad():
        mean, variance, count = moments(x, group)
        if module.running_mean is not None and module.running_var is not None:
            assert module.num_batches_tracked is not None
            module.num_batches_tracked.add_(1)
            momentum = module.momentum
            share = 1 / float(module.num_batches_tracked) if momentum is None else momentum
            module.running_mean.lerp_(mean.to(module.running_mean.dtype), share)
            unbiased = variance * (count / (count - 1).clamp(min=1))
            module.running_var.lerp_(unbiased.to(module.running_var.dtype), share)
    output: Tensor = _Normalise.apply(x, module.weight, module.bias, mean, variance, count, module.eps, group)
    return output


class _Normalise(torch.autograd.Function):
    """Batch normalisation by a mean and a variance that depend on all ranks' images."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        mean: Tensor,
        variance: Tensor,
        count: Tensor,
        epsilon: float,
        group: Group,
    ) -> Tensor:
        ctx.save_for_backward(x, weight, mean, variance)
        ctx.count, ctx.epsilon, ctx.group = count, epsilon, group
        return F.batch_norm(x, mean, variance, weight, bias, eps=epsilon)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, variance = ctx.saved_tensors
        of_weight, of_bias = torch.zeros_like(weight), torch.zeros_like(weight)
        if len(x):  # torch 2.14 crashes on no image
            _, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
                gradient, x, weight, mean, variance, None, None, False, ctx.epsilon, [False, True, True]
            )
        total_weight, total_bias = of_weight.clone(), of_bias.clone()
        ctx.group.add_up(total_weight, total_bias)
        inverse = torch.rsqrt(variance + ctx.epsilon)
        # What reaches x through the mean and the variance is the same for all pixels but for a factor on x itself.
        slope = -weight * inverse.square() * total_weight / ctx.count
        level = -weight * inverse * total_bias / ctx.count
        of_x = F.batch_norm(x, mean, torch.ones_like(mean), slope, level, eps=0.0)
        # What reaches it as if both were constants.
        of_x.addcmul_(gradient, (weight * inverse).to(gradient.dtype)[:, None, None])
        return of_x, of_weight, of_bias, None, None, None, None, None
