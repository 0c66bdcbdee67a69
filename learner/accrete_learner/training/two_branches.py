"""Two backbones as one network: a frozen one, and its copy that learns what it lacks.

Source: the boosting of FOSTER (Wang et al., ECCV 2022).

Shapes: N examples, d feature length, O classes known before the step, C classes in all.
"""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor

from accrete_learner import heads
from accrete_learner.backbones import Backbone
from accrete_learner.heads import Head, HeadChoice
from accrete_learner.ranks import Shard
from accrete_learner.training.network import Network, Outputs, Teacher


class TwoBranches(Network):
    """A new backbone beside a frozen network, under one head on the features of both, the frozen ones first.

    What it calls its backbone, features and rows are the new ones. It is trained with the frozen network as its
    teacher, whose features it takes, and is a teacher of all C classes itself.
    """

    def __init__(self, frozen: Network, backbone: Backbone, head: Head, auxiliary: Head) -> None:
        """Hold all without copying them.

        Args:
            frozen: in evaluation mode.
            backbone: learns.
            head: of 2 d features.
            auxiliary: of the d new features alone, for training.
        """
        super().__init__(backbone, head, autocast=frozen.autocast)
        self.auxiliary = auxiliary
        # In a tuple they are no modules of this one: what is frozen is not trained, stays in evaluation mode, and has
        # no place in a checkpoint.
        self._parts = (frozen, Network(backbone, auxiliary, autocast=frozen.autocast))

    def compile(self, *args: object, **kwargs: object) -> None:
        """Compile the new branch. The frozen network is compiled by itself, or not."""
        self._parts[1].compile(*args, **kwargs)

    def forward(self, prepared: Tensor, shard: Shard | None = None) -> tuple[Tensor, Tensor]:
        """Return the new features [N, d] and the scores [N, C]; see `Network.forward`."""
        frozen, learning = self._parts
        with torch.no_grad():
            before, _ = frozen(prepared, shard)
        features, _ = learning(prepared, shard)
        return features, self.head(torch.cat((before, features), dim=1))

    def outputs(self, prepared: Tensor, shard: Shard, teacher: Teacher | None) -> Outputs:
        """See `Network.outputs`. The teacher is the frozen network, which is so computed once."""
        frozen, learning = self._parts
        assert teacher is frozen
        with torch.no_grad():
            before, teacher_scores = frozen(prepared, shard)
        features, auxiliary_scores = learning(prepared, shard)
        return Outputs(
            features=features,
            scores=self.head(torch.cat((before, features), dim=1)),
            auxiliary_scores=auxiliary_scores,
            teacher_features=before,
            teacher_scores=teacher_scores,
        )

    @property
    def rows(self) -> Tensor:
        """The head's columns for the new features, [C, d]."""
        return self.head.weight[:, -self.backbone.feature_length :]


def beside(
    frozen: Network,
    backbone: Backbone,
    choice: HeadChoice,
    parent: Mapping[str, Tensor],
    *,
    class_count: int,
    generator: torch.Generator,
) -> TwoBranches:
    """Return the network whose new branch is to learn what the frozen one lacks.

    The head goes on from the parent's, as in the authors' code: the old classes' columns for the frozen features are
    the parent's, all else starts at random, as in a first step.

    Args:
        frozen: as it was before the step, in evaluation mode.
        backbone: its backbone, which is copied.
        choice: of the head.
        parent: the frozen network's head as exported.
        class_count: C.
        generator: source of random numbers.
    """
    length = backbone.feature_length
    wide = heads.widened(parent, length, generator)
    head = heads.grow(choice, wide, feature_length=2 * length, class_count=class_count, generator=generator)
    auxiliary = heads.grow(choice, None, feature_length=length, class_count=class_count, generator=generator)
    return TwoBranches(frozen, copy.deepcopy(backbone), head, auxiliary)
