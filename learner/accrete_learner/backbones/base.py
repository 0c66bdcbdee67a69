"""The one module type that training, evaluation, export and the PyTorch engine run.

Shapes: N examples, H x W pixels, C channels, d feature length, w numbers that features of all blocks are made of.
"""

from functools import partial

import torch
from torch import Tensor, nn

from accrete_learner.backbones.cifar import CifarResNet
from accrete_learner.backbones.whitening import Whitening
from accrete_learner.ranks import Group
from accrete_model.card import FeatureChoice


class Backbone(nn.Module):
    """A network with its normalisation inside, so that training and serving cannot differ in it.

    The state dict holds the network's under `network.` and the normalisation as buffers, so an artifact's weights are
    complete.
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self, network: nn.Module, feature_length: int, input_shape: tuple[int, ...], mean: Tensor, std: Tensor
    ) -> None:
        """Wrap `network`, which takes float [N, C', H, W] and returns [N, d].

        Args:
            network: without a classifier.
            feature_length: d.
            input_shape: of one example, [H, W, C] with C the length of `mean`, or 1: a grey image is then repeated.
            mean: per channel, for pixels in 0 to 1.
            std: likewise.
        """
        super().__init__()
        self.network = network
        self.feature_length = feature_length
        self.input_shape = input_shape
        # (pixel / 255 - mean) / std as one multiplication and one addition.
        self.register_buffer("scale", (1 / (255 * std)).view(1, -1, 1, 1))
        self.register_buffer("shift", (-mean / std).view(1, -1, 1, 1))

    @property
    def features(self) -> FeatureChoice:
        """What its features are; see `choose_features`."""
        return self.network.features if isinstance(self.network, CifarResNet) else "last"

    def choose_features(self, features: FeatureChoice) -> None:
        """Give the last block's features from now on, or those of all blocks.

        Only networks for small images can give all blocks'. Others stay as they are.
        """
        if isinstance(self.network, CifarResNet):
            self.network.choose_features(features)
            self.feature_length = self.network.feature_length

    @property
    def whitening(self) -> Whitening | None:
        """How features of all blocks are whitened. None: they are the last block's, as they come."""
        if self.features == "last":
            return None
        assert isinstance(self.network, CifarResNet)
        return self.network.whitening

    def of_all_blocks(self, batch: Tensor) -> Tensor:
        """Return [N, w] of uint8 [N, H, W, C], which features of all blocks are made of."""
        assert isinstance(self.network, CifarResNet)
        return self.network.of_all_blocks(self.prepare(batch))

    def whiten(self, x: Tensor, labels: Tensor, group: Group) -> Tensor:
        """Make features of all blocks from now on as it suits these examples, on each rank alike.

        Args:
            x: [N, w], what `of_all_blocks` returns of the examples.
            labels: [N] their classes.
            group: of the ranks.

        Returns:
            Their features [N, d].
        """
        assert isinstance(self.network, CifarResNet)
        self.network.whitening = group.once(partial(Whitening.of, x.cpu(), labels.cpu(), self.feature_length))
        return self.network.whitening(x)

    def prepare(self, batch: Tensor) -> Tensor:
        """Normalise uint8 [N, H, W, C] to float32 [N, C', H, W] in channels-last memory order."""
        return batch.permute(0, 3, 1, 2).float() * self.scale + self.shift

    def features_from(self, prepared: Tensor) -> Tensor:
        """Return the features [N, d] of what `prepare` returned. A student and its teacher may share one `prepare`."""
        output = self.network(prepared)
        # GoogLeNet and Inception return their auxiliary classifiers' outputs too while training.
        features: Tensor = output if isinstance(output, Tensor) else output[0]
        return features

    def forward(self, batch: Tensor) -> Tensor:
        """Return the features [N, d] of uint8 [N, H, W, C], float32 outside autocast."""
        return self.features_from(self.prepare(batch))


class IdentityBackbone(Backbone):
    """For applications that compute the embedding, which is the feature vector. Has no state."""

    def __init__(self, length: int) -> None:
        super().__init__(nn.Identity(), length, (length,), torch.zeros(0), torch.ones(0))
        # The empty normalisation would only puzzle a reader of the artifact.
        del self.scale, self.shift

    def prepare(self, batch: Tensor) -> Tensor:
        """Return float32 [N, d] as it is."""
        return batch

    def features_from(self, prepared: Tensor) -> Tensor:
        """Return float32 [N, d] as it is."""
        return prepared
