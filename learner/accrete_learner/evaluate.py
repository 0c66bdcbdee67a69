"""What a finished network computes: features in batches, scores by any rule.

Shapes: N examples, C classes, d feature length.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from accrete_learner.ranks import ALONE, Group
from accrete_model.rules import head_kind, read_rule
from accrete_model.rules.base import take_from

_SCORED = 1024
"""Examples scored at a time; bounds the memory of rules that compare each with every exemplar."""


def extract(
    backbone: nn.Module,
    x: Tensor,
    *,
    batch_size: int = 512,
    group: Group = ALONE,
    compute: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Return features [N, d] float32 as a server computes them: evaluation mode, full precision, no gradients.

    Args:
        backbone: comes back in the mode in which it was.
        x: examples in the model's input form, on the backbone's device.
        batch_size: bounds the memory that activations take.
        group: each of whose ranks computes a share, and gets all.
        compute: something else that the backbone computes of examples, in place of features.
    """
    shard = group.shard(len(x))
    x = x[shard.rows]
    was_training = backbone.training
    backbone.eval()
    with torch.no_grad():
        # An empty x still goes through once, so that the result has its d columns.
        starts = range(0, max(1, len(x)), batch_size)
        features = torch.cat([(compute or backbone)(x[start : start + batch_size]) for start in starts]).float()
    backbone.train(was_training)
    return shard.gather(features)


def scores(rule: str, features: Tensor, head: Mapping[str, Tensor], fitted: Mapping[str, Tensor]) -> Tensor:
    """Return scores [N, C] float32 on the CPU, computed as a server does; their softmax is the probability.

    Args:
        rule: one of `accrete_model.rules.UNFITTED` or `FITTED`.
        features: [N, d], as the backbone gives them, on any device.
        head: as exported, with `means` [C, d].
        fitted: what `accrete_learner.fitting.fit` returned; not read for a rule that is not fitted.

    Raises:
        LoadError: when a tensor of the rule is missing, malformed or not finite.
    """
    classes, length = head["means"].shape
    read = read_rule(
        rule,
        head_kind(head),
        take_from("head", arrays(head)),
        lambda: take_from(rule, arrays(fitted)),
        classes=classes,
        length=length,
    )
    score = read.scores(range(classes))
    rows = features.detach().cpu().float().numpy()
    # No examples still go through once, so that the result has its C columns.
    starts = range(0, max(1, len(rows)), _SCORED)
    return torch.from_numpy(np.concatenate([score(rows[start : start + _SCORED]) for start in starts]))


def arrays(tensors: Mapping[str, Tensor]) -> dict[str, NDArray[Any]]:
    """Return tensors as a version's files hold them: on the CPU, float32 unless they are whole numbers."""
    moved = {name: tensor.detach().cpu() for name, tensor in tensors.items()}
    return {name: (tensor.float() if tensor.is_floating_point() else tensor).numpy() for name, tensor in moved.items()}
