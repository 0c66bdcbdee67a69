"""Whitens features within classes, so that cosines of them tell classes apart.

Sources: Chen et al., Shrinkage Algorithms for MMSE Covariance Estimation (IEEE Transactions on Signal Processing 2010),
equation 23, for the shrinkage.

Shapes: N examples, d features.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

#: Share of the mean variance in the covariance that whitens, at least: what hardly varies is not drawn out without end.
_SHRINKAGE = 0.03
#: Of the mean deviation, which each feature is taken to have at least, for the same reason.
_DEVIATION = 0.01


@dataclass(frozen=True, kw_only=True)
class Whitening:
    """Features are standardised and then whitened: `(features - mean) * scale @ matrix`."""

    mean: Tensor
    """[d]."""
    scale: Tensor
    """[d], by which the deviation of each feature becomes 1."""
    matrix: Tensor
    """[d, d], upper triangular, by which the standardised features' covariance within classes becomes the identity."""

    @classmethod
    def of(cls, features: Tensor, labels: Tensor) -> "Whitening":
        """Return what whitens features [N, d] of classes [N].

        With few examples, or none that differ within a class, it hardly turns the standardised features.
        """
        x = features.double()
        deviation = x.std(dim=0, correction=0)
        least = _DEVIATION * deviation.mean()
        scale = 1 / torch.where(least > 0, deviation.clamp(min=least), 1.0)
        mean = x.mean(dim=0)
        x = (x - mean) * scale
        one_hot = F.one_hot(labels).double()
        means = one_hot.T @ x / one_hot.sum(dim=0).clamp(min=1)[:, None]
        within = x - means[labels]
        shrunk = _shrunk(within.T @ within / len(x), len(x))
        lower = torch.linalg.cholesky(shrunk)
        identity = torch.eye(len(shrunk), dtype=lower.dtype, device=lower.device)
        matrix = torch.linalg.solve_triangular(lower, identity, upper=False).T
        return cls(mean=mean.float(), scale=scale.float(), matrix=matrix.contiguous().float())

    def __call__(self, features: Tensor) -> Tensor:
        """Return the whitened features [N, d]."""
        return (features - self.mean) * self.scale @ self.matrix

    def to(self, device: torch.device) -> "Whitening":
        """Return it on a device."""
        return Whitening(mean=self.mean.to(device), scale=self.scale.to(device), matrix=self.matrix.to(device))

    @property
    def unwhitening(self) -> Tensor:
        """[d, d], which takes whitened features back to standardised ones."""
        identity = torch.eye(len(self.matrix), dtype=torch.float64, device=self.matrix.device)
        inverse: Tensor = torch.linalg.solve_triangular(self.matrix.double(), identity, upper=True)
        return inverse.float()


def _shrunk(covariance: Tensor, count: int) -> Tensor:
    """Return a covariance [d, d] of so many examples, drawn towards its mean variance on the diagonal."""
    d = len(covariance)
    trace, squares = covariance.trace(), covariance.square().sum()
    if not trace > 0:
        return torch.eye(d, dtype=covariance.dtype, device=covariance.device)
    spread = (count + 1 - 2 / d) * (squares - trace.square() / d)
    best = ((1 - 2 / d) * squares + trace.square()) / spread.clamp(min=1e-300)
    share = best.clamp(min=_SHRINKAGE, max=1)
    shrunk = (1 - share) * covariance
    shrunk.diagonal().add_(share * trace / d)
    return shrunk
