"""DS-AL: a ridge regression, and a second one on what the first leaves.

The first is linear in random features, and underfits. The second takes the same projection through another function
and regresses on the error of the first. It learns of a step's new classes alone, or it would unlearn the others. The
first stream has one solution whatever the order of arrival is; the second depends on which classes came together.

Source: Zhuang et al., DS-AL: A Dual-Stream Analytic Learning for Exemplar-Free Class-Incremental Learning (AAAI 2024),
equations 11 to 18.
Shapes: N examples, d feature length, p random features, C classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

from accrete_learner.heads.random_features import RandomFeaturesHead
from accrete_learner.heads.ridge import Ridge
from accrete_learner.ranks import ALONE, Group

#: Examples that are expanded at a time, which bounds the memory to this many rows of p float64.
_CHUNK = 4096
#: Keeps a solution where every random feature is 0.
_LEAST = 1e-9


@dataclass(frozen=True, kw_only=True)
class DualStream:
    """The closed form of a head with a compensation."""

    main: Ridge
    """The first stream."""
    share: float = 0.6
    """C of equation 18, which the second stream's scores are multiplied by; the authors' for CIFAR-100."""
    penalty: float = 0.1
    """Of the second stream, in units of examples, as `Ridge.penalty`."""

    def __post_init__(self) -> None:
        for name in ("share", "penalty"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} = {getattr(self, name)}: must be above 0")

    def resized(self, random_features: int | None) -> Self:
        """See `ClosedForm.resized`."""
        return replace(self, main=self.main.resized(random_features))

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
    ) -> tuple[RandomFeaturesHead, dict[str, Tensor]]:
        """See `ClosedForm.fit`.

        The second stream starts where its sums are missing, as after a step of another closed form.

        Raises:
            ValueError: as `Ridge.solve` does.
        """
        first, projection, after = self.main.solve(
            features,
            labels,
            class_count,
            parent_head=parent_head,
            statistics=statistics,
            generator=generator,
            unwhitening=unwhitening,
            group=group,
        )
        known = 0 if parent_head is None else len(parent_head["weight"])
        # The sums so far count once.
        gram, sums = _before(first, statistics if group.rank == 0 else None)
        rows = range(len(labels))[group.shard(len(labels)).rows]
        for start in range(rows.start, rows.stop, _CHUNK):
            part = slice(start, min(start + _CHUNK, rows.stop))
            random = features[part].double() @ projection.double()
            expanded = random.tanh()
            gram.addmm_(expanded.T, expanded)
            sums.addmm_(_left_over(first, random, labels[part], known).T, expanded)
        group.add_up(gram, sums)
        regularised = gram.clone()
        regularised.diagonal().add_(self.penalty * gram.diagonal().mean() / after.gram[-1, -1] + _LEAST)
        second = self.share * torch.cholesky_solve(sums.T, torch.linalg.cholesky(regularised)).T
        kept = {"gram": after.gram, "sums": after.sums, "compensation_gram": gram, "compensation_sums": sums}
        return self.main.head(first, projection, parent_head, second), kept


def _before(first: Tensor, statistics: Mapping[str, Tensor] | None) -> tuple[Tensor, Tensor]:
    """Return copies of the second stream's sums so far, [p, p] and [C, p]."""
    classes, width = len(first), first.shape[1] - 1
    if statistics is not None and "compensation_gram" in statistics:
        sums = statistics["compensation_sums"]
        return statistics["compensation_gram"].clone(), F.pad(sums, (0, 0, 0, classes - len(sums)))
    return first.new_zeros(width, width), first.new_zeros(classes, width)


def _left_over(first: Tensor, random: Tensor, labels: Tensor, known: int) -> Tensor:
    """Return the first stream's error [n, C], which is nothing for the classes known before (equation 14).

    In a step without a new class it is left as it is.
    """
    error = F.one_hot(labels, len(first)) - F.linear(random.relu(), first[:, :-1], first[:, -1])
    if known < len(first):
        error[:, :known] = 0
    return error
