"""Backbone and head as one network, and its frozen copy as a teacher.

Shapes: N examples, d feature length, C classes.
"""

import copy
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from accrete_learner.backbones import Backbone
from accrete_learner.heads import Head
from accrete_learner.ranks import Shard


class Teacher(Protocol):
    """Gives the scores to distil, of the classes known before the step and perhaps of more. A frozen `Network` is
    one."""

    @property
    def rows(self) -> Tensor:
        """[O, d], of the head before the step."""

    def __call__(self, prepared: Tensor, shard: Shard | None = None) -> tuple[Tensor, Tensor]:
        """Return features [N, d] and scores [N, T] of what a backbone's `prepare` returned; see `Network.forward`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outputs:
    """What a network and its teacher make of a batch, all float32; `losses.Batch` says what each is."""

    features: Tensor
    scores: Tensor
    auxiliary_scores: Tensor | None = None
    teacher_features: Tensor | None = None
    teacher_scores: Tensor | None = None


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

    def outputs(self, prepared: Tensor, shard: Shard, teacher: Teacher | None) -> Outputs:
        """Return what a loss is computed of, the teacher's part without a gradient."""
        features, scores = self(prepared, shard)
        if teacher is None:
            return Outputs(features=features, scores=scores)
        with torch.no_grad():
            teacher_features, teacher_scores = teacher(prepared, shard)
        return Outputs(
            features=features, scores=scores, teacher_features=teacher_features, teacher_scores=teacher_scores
        )

    @property
    def rows(self) -> Tensor:
        """The head's rows [C, d]."""
        return self.head.weight

    def teacher(self) -> "Network":
        """Return a copy of this network as it is now, in evaluation mode and without gradients."""
        return copy.deepcopy(self).requires_grad_(False).eval()
