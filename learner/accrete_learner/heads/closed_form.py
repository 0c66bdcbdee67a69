"""What a method asks of a closed form, and the one that solves for a linear head on the features themselves.

Shapes: N examples, d feature length, C classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
import torch
from torch import Tensor

from accrete_learner.analytic import Statistics, fit
from accrete_learner.heads.base import Head
from accrete_learner.heads.linear import LinearHead
from accrete_learner.ranks import ALONE, Group

#: New examples that choose and calibrate, at most; see `accrete_learner.analytic.fit`.
_JUDGES = 1000


class ClosedForm(Protocol):
    """Solves for a head on a frozen backbone."""

    def resized(self, random_features: int | None) -> Self:
        """Return it with as many random features where it begins; None, or one that has none: as it is."""
        ...

    def fit(
        self,
        features: Tensor,
        labels: Tensor,
        class_count: int,
        *,
        parent_head: Mapping[str, Tensor] | None,
        statistics: Mapping[str, Tensor] | None,
        generator: torch.Generator,
        unwhitening: Tensor | None = None,
        group: Group = ALONE,
    ) -> tuple[Head, dict[str, Tensor]]:
        """Return the head after these examples, and the statistics to go on from.

        Args:
            features: [N, d] of the new examples under the backbone that serves.
            labels: [N] int64.
            class_count: C.
            parent_head: as exported. None in a first step.
            statistics: as this function returned in the step before. None starts the sums here.
            generator: source of random numbers, where there are any.
            unwhitening: [d, w], which takes whitened features to the w numbers that random features are drawn for.
                None: the features are not whitened.
            group: each of whose ranks adds up a share of the examples.

        Raises:
            ValueError: when there is no solution.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Discriminant:
    """The shrunk discriminant of `accrete_learner.analytic`, in a trainer's step.

    The learner's process, which keeps all features, measures and calibrates by all of them; a trainer's step has the
    new ones alone.
    """

    def resized(self, random_features: int | None) -> Self:
        """See `ClosedForm.resized`."""
        return self

    def fit(
        self,
        features: Tensor,
        labels: Tensor,
        class_count: int,
        *,
        parent_head: Mapping[str, Tensor] | None,
        statistics: Mapping[str, Tensor] | None,
        generator: torch.Generator,
        unwhitening: Tensor | None = None,
        group: Group = ALONE,
    ) -> tuple[LinearHead, dict[str, Tensor]]:
        """See `ClosedForm.fit`. Nothing in it is random, and whitened features stay so."""
        x, y = features.double().cpu().numpy(), labels.cpu().numpy()
        if statistics is None or "counts" not in statistics:  # another closed form's
            before = Statistics.empty(x.shape[1], class_count)
        else:
            sums = {name: statistics[name].cpu().numpy() for name in ("counts", "sums", "gram")}
            before = Statistics(**sums).grown(class_count)
        rows = group.shard(len(y)).rows
        # The sums so far count once.
        own = before if group.rank == 0 else Statistics.empty(x.shape[1], class_count)
        after = own.with_examples(x[rows], y[rows])
        group.add_up(*(torch.from_numpy(array) for array in (after.counts, after.sums, after.gram)))
        solved = fit(after, x[:_JUDGES], y[:_JUDGES])
        weight, bias = (torch.from_numpy(array).to(features.device) for array in (solved.weight, solved.bias))
        old = 0 if parent_head is None else len(parent_head["weight"])
        head = LinearHead(weight[:old], weight[old:], bias[:old], bias[old:])
        kept = {"counts": after.counts, "sums": after.sums, "gram": after.gram}
        return head, {name: torch.from_numpy(np.asarray(value)).to(features.device) for name, value in kept.items()}


def added_rows(tensor: Tensor, merged: Sequence[tuple[int, int]]) -> Tensor:
    """Return a copy of rows in which each first one of `merged` is added to its second."""
    total = tensor.clone()
    for row, into in merged:
        total[into] += tensor[row]
    return total


def keep_rows(
    statistics: Mapping[str, Tensor], rows: Sequence[int], merged: Sequence[tuple[int, int]] = ()
) -> dict[str, Tensor]:
    """Return the statistics of the classes that stay, in their new order.

    A dropped class's examples remain in the products of features, as examples of no class; to remove them takes the
    examples.

    Args:
        statistics: sums by class [C, ...], and those of all classes, whose names end in "gram".
        rows: of the classes that stay.
        merged: rows of classes that are part of others now, each with the row to which its sums are added.
    """
    chosen = list(rows)
    return {
        name: tensor if name.endswith("gram") else added_rows(tensor, merged)[chosen]
        for name, tensor in statistics.items()
    }
