"""Weight transfer: the convolutions keep what they know, and a scale a filter, of few numbers, learns in their place.

Sources: Liu et al., Mnemonics Training (CVPR 2020), section 4.4, after Sun et al., Meta-Transfer Learning for Few-Shot
Learning (CVPR 2019), section 4.2: of W x + b, W stays, and a factor on W that starts at 1 and a term beside b that
starts at 0 are trained. The other parameters (batch normalisation, the head) train as ever.

Shapes: O output channels, I input channels of a convolution's group, kh x kw its kernel.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


class _ChannelScale(nn.Module):
    """A convolution's weight as a frozen one times a learnt factor a pair of output and input channel."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.scale = nn.Parameter(weight.new_ones(weight.shape[:2] + (1,) * (weight.dim() - 2)))

    def forward(self, weight: Tensor) -> Tensor:
        """[O, I, kh, kw] -> the same shape."""
        # Detached, because a training run may ask all parameters for gradients: without one, an optimiser passes the
        # weight by, weight decay included.
        return weight.detach() * self.scale


@contextmanager
def scale_and_shift(network: nn.Module) -> Iterator[None]:
    """Within, `network`'s convolutions learn by a scale alone; on leaving, however, it is folded into plain weights.

    The network computes the same at the entry, and the same after leaving as before it; its state dict then has the
    names it had. Build the optimiser inside. Factors begin at 1 in every step where the paper carries them on: folding
    multiplies them in, so the weights that can be reached are the same.

    The shift needs no parameter of its own. A convolution that has a bias trains it. One without is followed by batch
    normalisation, which takes the mean of a batch out again, so a shift before it would have no effect and no gradient;
    the normalisation's own bias, which trains too, is the shift.
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
