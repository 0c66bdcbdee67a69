"""Makes fewer numbers of many that belong together, so that cosines of them tell classes apart.

Sources: Chen et al., Shrinkage Algorithms for MMSE Covariance Estimation (IEEE Transactions on Signal Processing 2010),
equation 23, for the shrinkage.

Shapes: N examples, w numbers of each, d features that are made of them.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

#: Share of the mean variance in the covariance that whitens, at least: what hardly varies is not drawn out without end.
_SHRINKAGE = 0.03
#: Of the mean deviation, which each number is taken to have at least, for the same reason.
_DEVIATION = 0.01
#: Examples that are float64 at a time, which bounds the memory.
_CHUNK = 4096


@dataclass(frozen=True, kw_only=True)
class Whitening:
    """Numbers are standardised, their principal components are kept, and these are whitened within classes."""

    mean: Tensor
    """[w]."""
    matrix: Tensor
    """[w, d], which all three come to."""
    unwhitening: Tensor
    """[d, w], which takes features back to standardised numbers, as far as the components hold these. Unlike the
    components it has no sign that rounding could change."""

    @classmethod
    def of(cls, x: Tensor, labels: Tensor, length: int) -> "Whitening":
        """Return what makes d = `length` features of examples [N, w] of classes [N].

        Of few examples, or where none differ within a class, it is hardly whitened. Components beyond what the examples
        span are any that are left.
        """
        mean = x.mean(dim=0, dtype=torch.float64)
        scatter, sums = _scatter(x, labels, mean)
        counts = labels.bincount().double()
        between = (sums / counts.clamp(min=1)[:, None]).T @ sums
        deviation = (scatter.diagonal() / len(x)).sqrt()
        least = _DEVIATION * deviation.mean()
        scale = 1 / torch.where(least > 0, deviation.clamp(min=least), 1.0)
        components = torch.linalg.eigh(scale[:, None] * scatter * scale).eigenvectors.flip(1)[:, :length]
        reduced = scale[:, None] * components
        covariance = reduced.T @ (scatter - between) @ reduced / len(x)
        lower = torch.linalg.cholesky(_shrunk(covariance, len(x)))
        whitened = torch.linalg.solve_triangular(lower.T, reduced, upper=True, left=False)
        back = lower.T @ components.T
        return cls(mean=mean.float(), matrix=whitened.float().contiguous(), unwhitening=back.float())

    def __call__(self, x: Tensor) -> Tensor:
        """Return the features [N, d] of examples [N, w]."""
        return (x - self.mean) @ self.matrix


def _scatter(x: Tensor, labels: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
    """Return the products [w, w] of all examples about their mean, and the sums [C, w] about it by class, float64."""
    scatter = mean.new_zeros(len(mean), len(mean))
    sums = mean.new_zeros(int(labels.max()) + 1, len(mean))
    for start in range(0, len(x), _CHUNK):
        part = slice(start, start + _CHUNK)
        centred = x[part] - mean
        scatter.addmm_(centred.T, centred)
        sums.index_add_(0, labels[part], centred)
    return scatter, sums


def _shrunk(covariance: Tensor, count: int) -> Tensor:
    """Return a covariance [d, d] of so many examples, drawn towards its mean variance on the diagonal."""
    d = len(covariance)
    trace, squares = covariance.trace(), covariance.square().sum()
    if not trace > 1e-9 * d:  # rounding, where a standardised number has 1
        return torch.eye(d, dtype=covariance.dtype, device=covariance.device)
    spread = (count + 1 - 2 / d) * (squares - trace.square() / d)
    best = ((1 - 2 / d) * squares + trace.square()) / spread.clamp(min=1e-300)
    share = best.clamp(min=_SHRINKAGE, max=1)
    shrunk = (1 - share) * covariance
    shrunk.diagonal().add_(share * trace / d)
    return shrunk
