"""Residual networks for small images.

Sources: He et al., Deep Residual Learning (CVPR 2016), section 4.2, for the CIFAR networks; Hou et al., Learning a
Unified Classifier Incrementally via Rebalancing (CVPR 2019), section 3.3 and their code, for the missing last ReLU:
with it, features and their cosines could not be negative.

Shapes: N examples, H x W pixels, C channels, d features.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from accrete_learner.backbones.whitening import Whitening
from accrete_model.card import FeatureChoice

#: Statistics of CIFAR-100's training pixels, in 0 to 1, per channel.
CIFAR_MEAN = (0.5071, 0.4867, 0.4408)
CIFAR_STD = (0.2675, 0.2565, 0.2761)

#: d of features of all blocks, at most. Half as many cost less than a point, all that there are bring little. A head
#: on random features takes d numbers for each (docs/methods.md).
BLOCK_FEATURES = 512

#: Variance over the image that every channel has at least, since the slope of a root at 0 is none.
_LEAST = 1e-12

#: Images of this size and above are halved in the stem of `resnet8`.
_LARGE = 32


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and a shortcut, which is a 1 x 1 convolution where shapes differ (option B)."""

    def __init__(self, inputs: int, outputs: int, stride: int, *, last_relu: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.last_relu = last_relu
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            projection = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, C', H', W']."""
        return self.halves(x)[1]

    def halves(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return what lies between the convolutions, and the output, each [N, C', H', W']."""
        between = F.relu(self.bn1(self.conv1(x)))
        output: Tensor = self.bn2(self.conv2(between)) + self.shortcut(x)
        return between, F.relu(output) if self.last_relu else output


class CifarResNet(nn.Module):
    """A 3 x 3 stem and stages of basic blocks, each of which but the first halves the image and widens."""

    features_mean: Tensor
    features_whitening: Tensor
    features_unwhitening: Tensor

    def __init__(
        self, channels: int, widths: tuple[int, ...], blocks: int, *, stem_stride: int = 1, last_relu: bool = False
    ) -> None:
        """Build and initialise the network.

        Args:
            channels: of the input.
            widths: channels of each stage; the last is d.
            blocks: per stage.
            stem_stride: 2 halves the image at once.
            last_relu: whether the features pass a ReLU, as in He et al.; without it (LUCIR) they can be negative.
        """
        super().__init__()
        self.conv1 = nn.Conv2d(channels, widths[0], 3, stem_stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        shapes = [(widths[0], widths[0], 1)] + [(narrow, wide, 2) for narrow, wide in pairwise(widths)]
        layers = []
        for inputs, outputs, stride in shapes:
            layers.append(BasicBlock(inputs, outputs, stride))
            layers += [BasicBlock(outputs, outputs, 1) for _ in range(blocks - 1)]
        layers[-1].last_relu = last_relu
        self.layers = nn.Sequential(*layers)
        self.features: FeatureChoice = "last"
        """The last block's mean output, or what all blocks come to, whitened; see `of_all_blocks`."""
        self._all_blocks = 3 * blocks * sum(widths)
        self._lengths = {"last": widths[-1], "blocks": min(BLOCK_FEATURES, self._all_blocks)}
        _initialise(self)

    @property
    def feature_length(self) -> int:
        """d."""
        return self._lengths[self.features]

    def choose_features(self, features: FeatureChoice) -> None:
        """Give these from now on. Those of all blocks are to be whitened then."""
        if features == "blocks" and self.features != "blocks":
            device, length = self.conv1.weight.device, self._lengths[features]
            self.register_buffer("features_mean", torch.zeros(self._all_blocks, device=device))
            self.register_buffer("features_whitening", torch.eye(self._all_blocks, length, device=device))
            self.register_buffer("features_unwhitening", torch.eye(length, self._all_blocks, device=device))
        self.features = features

    @property
    def whitening(self) -> Whitening:
        """How features of all blocks are whitened."""
        return Whitening(mean=self.features_mean, matrix=self.features_whitening, unwhitening=self.features_unwhitening)

    @whitening.setter
    def whitening(self, whitening: Whitening) -> None:
        self.features_mean.copy_(whitening.mean)
        self.features_whitening.copy_(whitening.matrix)
        self.features_unwhitening.copy_(whitening.unwhitening)

    def forward(self, x: Tensor) -> Tensor:
        """Return the features [N, d] of [N, C, H, W]."""
        if self.features == "blocks":
            return self.whitening(self.of_all_blocks(x))
        return _mean(self.layers(F.relu(self.bn1(self.conv1(x)))))

    def of_all_blocks(self, x: Tensor) -> Tensor:
        """Return [N, w] of [N, C, H, W]: over the image the mean and deviation of each block's output, and the mean
        between its convolutions."""
        x = F.relu(self.bn1(self.conv1(x)))
        found = []
        for block in self.layers:
            assert isinstance(block, BasicBlock)
            between, x = block.halves(x)
            mean = _mean(x)
            variance = _mean((x - mean[:, :, None, None]).square())
            found += [mean, (variance + _LEAST).sqrt(), _mean(between)]
        return torch.cat(found, dim=1)


def resnet32(channels: int, *, last_relu: bool = False) -> CifarResNet:
    """Build the papers' network for CIFAR, with 16-32-64 channels, 5 blocks per stage, d = 64, 0.46 M parameters."""
    return CifarResNet(channels, (16, 32, 64), blocks=5, last_relu=last_relu)


def resnet8(channels: int, input_size: int, *, last_relu: bool = False) -> CifarResNet:
    """Build a network with 32-64-128 channels, 1 block per stage, d = 128, 0.3 M parameters.

    It takes a quarter of `resnet32`'s work or less. Images below 32 pixels keep their size in the stem, so 8 x 8 pixels
    still end as 2 x 2 positions.
    """
    stem_stride = 2 if input_size >= _LARGE else 1
    return CifarResNet(channels, (32, 64, 128), blocks=1, stem_stride=stem_stride, last_relu=last_relu)


def _mean(x: Tensor) -> Tensor:
    """Return the means [N, C] of [N, C, H, W]."""
    return F.adaptive_avg_pool2d(x, 1).flatten(1)


def _initialise(network: nn.Module) -> None:
    # He et al., Delving Deep into Rectifiers (ICCV 2015), as in LUCIR's code.
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
