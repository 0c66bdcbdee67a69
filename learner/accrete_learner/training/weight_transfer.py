"""Weight transfer, which keeps the convolutions' weights and trains a scale per pair of channels in their place.

Sources: Liu et al., Mnemonics Training (CVPR 2020), section 4.4, after Sun et al., Meta-Transfer Learning for Few-Shot
Learning (CVPR 2019), section 4.2. Of W x + b, W stays, and a factor on W that starts at 1 and a term added to b that
starts at 0 are trained. The other parameters (batch normalisation, the head) train as usual.

Shapes: O output channels, I input channels of a convolution's group, kh x kw its kernel.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


class _ChannelScale(nn.Module):
    """A convolution's weight as a frozen one times a learnt factor per pair of output and input channel."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.scale = nn.Parameter(weight.new_ones(weight.shape[:2] + (1,) * (weight.dim() - 2)))

    def forward(self, weight: Tensor) -> Tensor:
        """Scale a weight [O, I, kh, kw]."""
        # Detached, because training may ask all parameters for gradients. An optimiser skips a weight without a
        # gradient, weight decay included.
        return weight.detach() * self.scale


@contextmanager
def scale_and_shift(network: nn.Module) -> Iterator[None]:
    """Train a scale in place of the weights of `network`'s convolutions in this block, and fold it in at the end.

    Neither entering nor leaving changes what the network computes, and afterwards its state dict has the same names as
    before. Build the optimiser inside. The factors start at 1 in every step where the paper carries them on. Folding
    multiplies them into the weights, so the weights that can be reached are the same.

    The shift needs no parameter of its own. A convolution that has a bias trains it. One without is followed by batch
    normalisation, which subtracts the mean of a batch, so that a shift before it would have no effect and no gradient.
    The normalisation's own bias, which is trained too, is the shift.
    """
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    try:
        for convolution in convolutions:
            parametrize.register_parametrization(convolution, "weight", _ChannelScale(convolution.weight))
        yield
    finally:
        for convolution in convolutions:
            if parametrize.is_parametrized(convolution, "weight"):
                _fold(convolution)


@torch.no_grad()
def _fold(convolution: nn.Conv2d) -> None:
    parametrize.remove_parametrizations(convolution, "weight", leave_parametrized=True)
    convolution.weight.grad = None
