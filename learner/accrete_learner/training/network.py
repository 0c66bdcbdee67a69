"""Backbone and head as one network, and its frozen copy as a teacher.

Shapes: N examples, d feature length, C classes.
"""

import copy

import torch
from torch import Tensor, nn

from accrete_learner.backbones import Backbone
from accrete_learner.heads import Head
from accrete_learner.ranks import Shard


class Network(nn.Module):
    """A backbone, under autocast where that is asked for, and a head on float32 features.

    Cosines need more digits than bfloat16 has.
    """

    def __init__(self, backbone: Backbone, head: Head, *, autocast: bool = False) -> None:
        """Hold both without copying them. `autocast` lets the backbone multiply in bfloat16."""
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.autocast = autocast

    def forward(self, prepared: Tensor, shard: Shard | None = None) -> tuple[Tensor, Tensor]:
        """Return features [N, d] and scores [N, C], both float32, of what `backbone.prepare` returned.

        Args:
            prepared: all N examples, or a rank's share of them.
            shard: which share. The features are then gathered from all ranks, and each computes all scores.
        """
        with torch.autocast(prepared.device.type, dtype=torch.bfloat16, enabled=self.autocast):
            features = self.backbone.features_from(prepared)
        features = features.float()
        if shard is not None:
            features = shard.gather(features)
        return features, self.head(features)

    @property
    def rows(self) -> Tensor:
        """The head's rows [C, d]."""
        return self.head.weight

    def teacher(self) -> "Network":
        """Return a copy of this network as it is now, in evaluation mode and without gradients."""
        return copy.deepcopy(self).requires_grad_(False).eval()
