"""A head in closed form, by ridge regression on random features of a frozen backbone.

The solution needs only sums over all examples so far. Classes and examples may therefore come in any order and in any
parts, the head is the one that all of them together would give, and an example can be taken out of the sums exactly.

Large classes keep some advantage, as in every regression on one-hot targets. Weighing the examples of small ones more
would need the products of features per class, C times as many numbers, because the weights change as examples come.

Sources: McDonnell et al., RanPAC (NeurIPS 2023), section 4.2; Zhuang et al., ACIL (NeurIPS 2022), theorem 1; Golub,
Heath and Wahba, Generalized cross-validation (Technometrics 1979).
Shapes: N examples, d feature length, p random features and a constant one, C classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

from accrete_learner.heads.random_features import RandomFeaturesHead, expand
from accrete_learner.ranks import ALONE, Group

#: Examples that are expanded at a time, which bounds the memory to this many rows of p float64.
_CHUNK = 4096
#: Penalties to choose from. The strongest come first, and the first of equally good ones is taken.
_PENALTIES = (1e4, 1e3, 1e2, 1e1, 1e0, 1e-1, 1e-2)
#: Separates the projection's random numbers from all others that a step's seed gives.
_STREAM = 0x52616E646F6D


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """The sums over all examples so far, float64."""

    gram: Tensor
    """[p + 1, p + 1], the expanded features' products with each other."""
    sums: Tensor
    """[C, p + 1], the expanded features' sum per class."""

    @classmethod
    def empty(cls, width: int, class_count: int, device: torch.device) -> "Statistics":
        """Return the sums over no example, with `width` as p."""
        return cls(
            gram=torch.zeros(width + 1, width + 1, dtype=torch.float64, device=device),
            sums=torch.zeros(class_count, width + 1, dtype=torch.float64, device=device),
        )

    def grown(self, class_count: int) -> "Statistics":
        """Return the sums with further classes, which have no example yet, up to `class_count`."""
        missing = class_count - len(self.sums)
        return Statistics(gram=self.gram, sums=F.pad(self.sums, (0, 0, 0, missing)))

    def with_examples(self, features: Tensor, labels: Tensor, projection: Tensor) -> "Statistics":
        """Return the sums with examples added, given their backbone features [N, d] and classes [N]."""
        return self._changed(features, labels, projection, 1.0)

    def without_examples(self, features: Tensor, labels: Tensor, projection: Tensor) -> "Statistics":
        """Return the sums with examples removed that had been added. This is exact up to rounding."""
        return self._changed(features, labels, projection, -1.0)

    def weights(self, penalty: float) -> Tensor:
        """Return the ridge solution [C, p + 1] for one-hot targets, whose last column is the bias.

        Args:
            penalty: in units of examples. It is multiplied by the mean square of a random feature over all examples,
                so that neither the features' length, which differs between backbones, nor the order of the examples
                matters.

        Raises:
            ValueError: when the sums are not finite, or there is no example.
        """
        return torch.cholesky_solve(self.sums.T, self._factor(penalty)).T

    def chosen_penalty(self) -> float:
        """Return the penalty with the least error |Y - XW|^2 / (N - tr H)^2 by generalised cross-validation.

        This needs no data beyond the sums, so neither the penalty nor the head depends on the order of arrival.

        Raises:
            ValueError: as `weights` does.
        """
        count, one_hot = self.gram[-1, -1], self.sums[:, -1].sum()
        errors = []
        for penalty in _PENALTIES:
            factor = self._factor(penalty)
            weights = torch.cholesky_solve(self.sums.T, factor)
            added = penalty * self._mean_square()
            # With (G + added) W = Q, both |Y - XW|^2 and tr H need no product with G.
            residual = one_hot - (weights * self.sums.T).sum() - added * weights[:-1].square().sum()
            freedom = count - len(self.gram) + added * torch.cholesky_inverse(factor).diagonal()[:-1].sum()
            errors.append(torch.where(freedom > 1e-6 * count, residual / freedom.square(), torch.inf))
        return _PENALTIES[int(torch.stack(errors).argmin())]

    def _factor(self, penalty: float) -> Tensor:
        """Return the lower Cholesky factor of the regularised products."""
        regularised = self.gram.clone()
        # The constant feature, which gives the bias, is not penalised.
        regularised.diagonal()[:-1] += penalty * self._mean_square()
        lower: Tensor
        lower, failed = torch.linalg.cholesky_ex(regularised)
        if bool(failed) or not torch.isfinite(lower).all():
            raise ValueError("the sums of features have no ridge solution: one is not finite, or there is no example")
        return lower

    def _mean_square(self) -> Tensor:
        """Return the mean square of a random feature, or 1 where all are 0, so that there is still a solution."""
        mean = self.gram.diagonal()[:-1].mean() / self.gram[-1, -1]
        return torch.where(mean == 0, 1.0, mean)

    def _changed(self, features: Tensor, labels: Tensor, projection: Tensor, sign: float) -> "Statistics":
        gram, sums = self.gram.clone(), self.sums.clone()
        for start in range(0, len(labels), _CHUNK):
            part = slice(start, start + _CHUNK)
            expanded = F.pad(expand(features[part].double(), projection.double()), (0, 1), value=1.0)
            gram.addmm_(expanded.T, expanded, alpha=sign)
            sums.index_add_(0, labels[part], expanded, alpha=sign)
        return Statistics(gram=gram, sums=sums)


@dataclass(frozen=True, kw_only=True)
class Ridge:
    """The closed form of a head, for methods that do not train it by gradient descent."""

    width: int = 2000
    """p. RanPAC takes 10,000 (section 5), which brings about a point of accuracy. A fifth of it is solved 25 times as
    fast, and its sums take 32 MB in place of 800."""
    penalty: float | None = 10.0
    """lambda, in units of examples; see `Statistics.weights`. RanPAC chooses it on a part of each step's data, which
    makes the head depend on which examples came together; a fixed value does not. None: `Statistics.chosen_penalty` in
    every step, which does not either and takes as long as about 15 solutions."""
    scale: float = 20.0
    """Factor on the regressed scores, which lie about 0 to 1, so that their softmax is a usable probability. It is the
    same for all classes, so it changes no ranking, and fixed, so that it does not depend on the order of arrival."""

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"width = {self.width}: must be at least 1")
        if self.penalty is not None and not self.penalty > 0:
            raise ValueError(f"penalty = {self.penalty}: must be above 0")
        if not self.scale > 0:
            raise ValueError(f"scale = {self.scale}: must be above 0")

    def resized(self, random_features: int | None) -> Self:
        """See `ClosedForm.resized`."""
        return self if random_features is None else replace(self, width=random_features)

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
        """See `ClosedForm.fit`, and `solve` for what is raised."""
        solved, projection, after = self.solve(
            features,
            labels,
            class_count,
            parent_head=parent_head,
            statistics=statistics,
            generator=generator,
            unwhitening=unwhitening,
            group=group,
        )
        return self.head(solved, projection, parent_head), {"gram": after.gram, "sums": after.sums}

    def solve(
        self,
        features: Tensor,
        labels: Tensor,
        class_count: int,
        *,
        parent_head: Mapping[str, Tensor] | None,
        statistics: Mapping[str, Tensor] | None,
        generator: torch.Generator,
        unwhitening: Tensor | None,
        group: Group,
    ) -> tuple[Tensor, Tensor, Statistics]:
        """Return the solution [C, p + 1] float64, the projection [d, p] and the sums; see `ClosedForm.fit`.

        The parent's head brings the `projection` that the statistics were gathered through. Where the sums start, the
        generator's seed gives it; it is not drawn from. Classes that are known without sums are then at a disadvantage.

        Raises:
            ValueError: when there is no solution, or the statistics are of another width than the projection.
        """
        known = parent_head is not None and statistics is not None and "projection" in parent_head
        if known:
            assert parent_head is not None
            assert statistics is not None
            projection = parent_head["projection"]
            if len(statistics["gram"]) != projection.shape[1] + 1:
                raise ValueError(f"sums of {len(statistics['gram']) - 1} features, projection to {projection.shape[1]}")
            before = Statistics(gram=statistics["gram"], sums=statistics["sums"]).grown(class_count)
        else:
            length = features.shape[1] if unwhitening is None else unwhitening.shape[1]
            projection = self.draw(length, generator).to(features.device)
            if unwhitening is not None:
                projection = unwhitening @ projection
            before = Statistics.empty(projection.shape[1], class_count, features.device)
        rows = group.shard(len(labels)).rows
        # The sums so far count once.
        own = before if group.rank == 0 else Statistics.empty(projection.shape[1], class_count, features.device)
        after = own.with_examples(features[rows], labels[rows], projection)
        group.add_up(after.gram, after.sums)
        return after.weights(after.chosen_penalty() if self.penalty is None else self.penalty), projection, after

    def head(
        self, solved: Tensor, projection: Tensor, parent_head: Mapping[str, Tensor] | None, second: Tensor | None = None
    ) -> RandomFeaturesHead:
        """Return the head of a solution, with a second stream's [C, p] if there is one."""
        rows, old = solved.float(), 0 if parent_head is None else len(parent_head["weight"])
        scale = torch.tensor([self.scale])
        compensation = None if second is None else second.float()
        return RandomFeaturesHead(rows[:old, :-1], rows[old:, :-1], rows[:, -1], projection, scale, compensation)

    def draw(self, length: int, generator: torch.Generator) -> Tensor:
        """Draw a standard normal projection [d, p] (RanPAC, section 4.2), on the generator's device.

        It depends on the generator's seed and not on its state, because what a step drew before depends on the number
        of its classes, and the head must not. It is drawn on the CPU, so that it is the same on every device.
        """
        own = torch.Generator().manual_seed((generator.initial_seed() + _STREAM) % 2**63)
        return torch.randn((length, self.width), generator=own).to(generator.device)
