"""EfficientNet-Lite0 in torch, with the features that `accrete_model.frozen.efficientnet_lite0` computes without it.

Layers have the names of the weights' file. See there for sources.

Shapes: N examples, S pixels of height and width, C channels, d features.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from accrete_model.frozen import efficientnet_lite0 as lite0

MEAN = (lite0.CENTRE / 255,) * 3
STD = (lite0.SPREAD / 255,) * 3
"""Of pixels in 0 to 1, per channel."""

#: Keeps the square root's slope finite where a channel is silent.
_TINY = 1e-12


class EfficientNetLite0(nn.Module):
    """The network without its classifier; every layer can be trained."""

    def __init__(self) -> None:
        """Build the network with ImageNet's weights.

        Raises:
            ValueError: when they are not installed, or are others.
        """
        super().__init__()
        weights = lite0.read_weights()
        self._conv_stem = SameConv2d(3, 32, 3, stride=2)
        self._bn0 = nn.BatchNorm2d(32, lite0.EPSILON)
        self._blocks = nn.ModuleList(InvertedResidual(block) for block in lite0.blocks())
        self._conv_head = SameConv2d(lite0.EARLIER[-1], lite0.LAST, 1)
        self._bn1 = nn.BatchNorm2d(lite0.LAST, lite0.EPSILON)
        for channels in lite0.EARLIER:
            self.register_buffer(f"mean_{channels}", torch.zeros(channels))
            self.register_buffer(f"deviation_{channels}", torch.ones(channels))
        state = self.state_dict()
        state |= {name: torch.from_numpy(array) for name, array in weights.items() if name in state}
        self.load_state_dict(state)
        self.standardise()

    def standardise(self) -> None:
        """Take means and deviations of the earlier stages from the weights.

        They stay when a step trains the network afterwards, so that a feature keeps its meaning.
        """
        weights = {name: tensor.numpy() for name, tensor in self.state_dict().items()}
        for channels, (mean, deviation) in lite0.standardisation(weights).items():
            getattr(self, f"mean_{channels}").copy_(torch.from_numpy(mean))
            getattr(self, f"deviation_{channels}").copy_(torch.from_numpy(deviation))

    def forward(self, x: Tensor) -> Tensor:
        """Return the features [N, d], of length 1, of [N, 3, S, S]."""
        x = F.relu6(self._bn0(self._conv_stem(x)))
        earlier = []
        for block in self._blocks:
            x = block(x)
            if block.ends_stage and x.shape[1] in lite0.EARLIER:
                earlier.append(lite0.EARLIER_WEIGHT * F.normalize(self._standard(_average(x))))
        last = F.normalize(_average(F.relu6(self._bn1(self._conv_head(x)))).clamp_min(_TINY).sqrt())
        return F.normalize(torch.cat([last, *earlier], dim=1))

    def constants(self) -> dict[str, Tensor]:
        """Return what a file of weights lacks: the buffers that `standardise` fills."""
        return {name: buffer for name, buffer in self.named_buffers() if name.startswith(("mean_", "deviation_"))}

    def _standard(self, averages: Tensor) -> Tensor:
        channels = averages.shape[1]
        mean, deviation = getattr(self, f"mean_{channels}"), getattr(self, f"deviation_{channels}")
        standard: Tensor = (averages - mean) / deviation
        return standard


class InvertedResidual(nn.Module):
    """One block; see `lite0.Block`."""

    def __init__(self, block: lite0.Block) -> None:
        super().__init__()
        wide = block.inputs * block.expansion
        self.residual = block.residual
        self.ends_stage = block.ends_stage
        if block.expansion != 1:
            self._expand_conv = SameConv2d(block.inputs, wide, 1)
            self._bn0 = nn.BatchNorm2d(wide, lite0.EPSILON)
        self._depthwise_conv = SameConv2d(wide, wide, block.kernel, stride=block.stride, groups=wide)
        self._bn1 = nn.BatchNorm2d(wide, lite0.EPSILON)
        self._project_conv = SameConv2d(wide, block.outputs, 1)
        self._bn2 = nn.BatchNorm2d(block.outputs, lite0.EPSILON)
        self._expands = block.expansion != 1

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, S, S] to [N, C', S', S']."""
        y = F.relu6(self._bn0(self._expand_conv(x))) if self._expands else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        output: Tensor = x + y if self.residual else y
        return output


class SameConv2d(nn.Conv2d):
    """A convolution without bias and with TensorFlow's "same" padding."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, S, S] to [N, C', ceil(S / stride), ceil(S / stride)]."""
        before, after = lite0.same_padding(int(x.shape[2]), self.kernel_size[0], self.stride[0])
        if before != after:
            x, before = F.pad(x, (before, after, before, after)), 0
        if self.groups > 1 and x.dtype == torch.bfloat16 and x.device.type == "cpu":
            filtered: Tensor = _Depthwise.apply(x, self.weight, self.stride[0], before)
            return filtered
        return F.conv2d(x, self.weight, None, self.stride, before, 1, self.groups)


class _Depthwise(torch.autograd.Function):
    """A filter per channel in bfloat16, whose gradients are computed in float32 where a CPU is far faster so.

    With bfloat16 throughout, these gradients take three quarters of a training's time.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
        """Return the filtered images [N, C, S', S'] of bfloat16 [N, C, S, S]."""
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(x, weight.to(x.dtype), None, stride, padding, 1, len(weight))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        """Return the gradients of x, in bfloat16, and of the weight, in float32."""
        x, weight = ctx.saved_tensors

        def of(gradient: Tensor, x: Tensor, weight: Tensor, wanted: list[bool]) -> tuple[Tensor, Tensor, Tensor]:
            stride, padding = [ctx.stride] * 2, [ctx.padding] * 2
            found: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.convolution_backward(
                gradient, x, weight, None, stride, padding, [1, 1], False, [0, 0], len(weight), wanted
            )
            return found

        if ctx.stride > 1:
            of_x, of_weight, _ = of(gradient.float(), x.float(), weight, [True, True, False])
            return of_x.to(x.dtype), of_weight, None, None
        of_x = of(gradient, x, weight.to(x.dtype), [True, False, False])[0]
        of_weight = of(gradient.float(), x.float(), weight, [False, True, False])[1]
        return of_x, of_weight, None, None


def _average(x: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(x, 1).flatten(1)
