"""SGD by torch's own function, without the class around it.

The first step of any class of `torch.optim` imports `torch._dynamo`, the half of the compiler that reads Python: as
much time as importing torch, and 150 MB, also where nothing is compiled.
"""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.optim.sgd import sgd


class Sgd:
    """What `torch.optim.SGD` computes, to the bit, with one rate for all parameters."""

    def __init__(
        self,
        parameters: Iterable[Tensor],
        *,
        rate: float,
        momentum: float,
        weight_decay: float,
        nesterov: bool = False,
    ) -> None:
        """Do nothing yet. `rate` may be set anew before each step."""
        self.parameters = list(parameters)
        self.rate = rate
        self.nesterov = nesterov
        self.momentum: dict[Tensor, Tensor] = {}
        """What has been added up of each parameter's gradients, once it has had one."""
        self._momentum = momentum
        self._weight_decay = weight_decay

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Take one step along the gradients of those parameters that have one."""
        moved = [parameter for parameter in self.parameters if parameter.grad is not None]
        buffers = [self.momentum.get(parameter) for parameter in moved]
        sgd(
            moved,
            [parameter.grad for parameter in moved if parameter.grad is not None],
            buffers,
            weight_decay=self._weight_decay,
            momentum=self._momentum,
            lr=self.rate,
            dampening=0.0,
            nesterov=self.nesterov,
            maximize=False,
        )
        self.momentum.update((one, buffer) for one, buffer in zip(moved, buffers, strict=True) if buffer is not None)
