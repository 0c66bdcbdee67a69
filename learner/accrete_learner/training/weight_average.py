"""The mean of a network's weights over the last part of a training, which is often better than the last weights.

Source: Izmailov et al., Averaging Weights Leads to Wider Optima (UAI 2018).
"""

import torch
from torch import Tensor, nn


class WeightAverage:
    """The running mean of all parameters. One that does not train keeps its bits."""

    def __init__(self, network: nn.Module) -> None:
        """Average over no update yet."""
        self._parameters = dict(network.named_parameters())
        self.count = 0
        """Updates averaged over."""
        self._means: dict[str, Tensor] = {}

    @torch.no_grad()
    def add(self) -> None:
        """Take in the parameters as they are."""
        self.count += 1
        for name, parameter in self._parameters.items():
            if self.count == 1:
                self._means[name] = parameter.detach().clone()
            else:
                self._means[name].lerp_(parameter, 1 / self.count)

    @torch.no_grad()
    def apply(self) -> None:
        """Give the mean to the network, if there is one."""
        for name, mean in self._means.items():
            self._parameters[name].copy_(mean)

    def state(self) -> dict[str, Tensor]:
        """Return what `load` takes: the means, and the count as `count`, int64."""
        return {"count": torch.tensor(self.count), **{f"mean.{name}": mean for name, mean in self._means.items()}}

    def load(self, state: dict[str, Tensor]) -> None:
        """Go on from a state that another average of the same network returned."""
        self.count = int(state["count"])
        self._means = {
            name: torch.empty_like(parameter).copy_(state[f"mean.{name}"]).detach()
            for name, parameter in self._parameters.items()
            if self.count
        }
