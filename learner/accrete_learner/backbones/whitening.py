"""Makes fewer numbers of many that belong together, so that cosines of them tell classes apart.

Sources: Chen et al., Shrinkage Algorithms for MMSE Covariance Estimation (IEEE Transactions on Signal Processing 2010),
equation 23, for the shrinkage.

Shapes: N examples, w numbers of each, d features that are made of them.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

#: Share of the mean variance in the covariance that whitens, at least: what hardly varies is not drawn out without end.
_SHRINKAGE = 0.03
#: Of the mean deviation, which each number is taken to have at least, for the same reason.
_DEVIATION = 0.01


@dataclass(frozen=True, kw_only=True)
class Whitening:
    """Numbers are standardised, their principal components are kept, and these are whitened within classes."""

    mean: Tensor
    """[w]."""
    matrix: Tensor
    """[w, d], which all three come to."""
    unwhitening: Tensor
    """[d, d], which takes features back to the components as they were before they were whitened."""

    @classmethod
    def of(cls, x: Tensor, labels: Tensor, length: int) -> "Whitening":
        """Return what makes d = `length` features of examples [N, w] of classes [N].

        Of few examples, or where none differ within a class, it is hardly whitened. Components beyond what the examples
        span are any that are left.
        """
        x = x.double()
        mean, deviation = x.mean(dim=0), x.std(dim=0, correction=0)
        least = _DEVIATION * deviation.mean()
        scale = 1 / torch.where(least > 0, deviation.clamp(min=least), 1.0)
        x = (x - mean) * scale
        components = torch.linalg.eigh(x.T @ x).eigenvectors.flip(1)[:, :length]
        x = x @ components
        one_hot = F.one_hot(labels).double()
        means = one_hot.T @ x / one_hot.sum(dim=0).clamp(min=1)[:, None]
        within = x - means[labels]
        lower = torch.linalg.cholesky(_shrunk(within.T @ within / len(x), len(x)))
        whitened = torch.linalg.solve_triangular(lower.T, scale[:, None] * components, upper=True, left=False)
        return cls(mean=mean.float(), matrix=whitened.float().contiguous(), unwhitening=lower.T.float().contiguous())

    def __call__(self, x: Tensor) -> Tensor:
        """Return the features [N, d] of examples [N, w]."""
        return (x - self.mean) @ self.matrix


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
