"""Backbone and head as one thing that trains, and the frozen copy of it that teaches.

Shapes: N examples, d feature length, C classes.
"""

import copy

import torch
from torch import Tensor, nn

from accrete_learner.backbones import Backbone
from accrete_learner.heads import Head


class Network(nn.Module):
    """A backbone, under autocast where that is wanted, and a head on float32 features: cosines need the digits."""

    def __init__(self, backbone: Backbone, head: Head, *, autocast: bool = False) -> None:
        """Both are held, not copied; `autocast` lets the backbone multiply in bfloat16."""
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.autocast = autocast

    def forward(self, prepared: Tensor) -> tuple[Tensor, Tensor]:
        """Features [N, d] and scores [N, C], both float32, of what `backbone.prepare` answered."""
        with torch.autocast(prepared.device.type, dtype=torch.bfloat16, enabled=self.autocast):
            features = self.backbone.features_from(prepared)
        features = features.float()
        return features, self.head(features)

    @property
    def rows(self) -> Tensor:
        """The head's rows [C, d]."""
        return self.head.weight

    def teacher(self) -> "Network":
        """A copy that stays as this one is now: evaluation mode, no gradients."""
        return copy.deepcopy(self).requires_grad_(False).eval()
