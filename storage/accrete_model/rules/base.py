"""The interface of every rule, which is read once, prepared once per set of masked labels, and then only multiplies.

Shapes: N images, d feature length, C classes, K of them that are not masked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from accrete_model.errors import LoadError
from accrete_model.vectors import Floats

Scores = Callable[[Floats], Floats]
"""Features [N, d] to scores [N, K], whose softmax is the probability."""


class Take(Protocol):
    """Takes one tensor out of several."""

    def __call__(
        self,
        key: str,
        shape: tuple[int | None, ...],
        dtype: str = "float32",
        *,
        default: NDArray[Any] | None = None,
    ) -> NDArray[Any]:
        """Return the tensor called `key`, all of its values finite.

        Args:
            key: its name.
            shape: None stands for any length.
            dtype: its numpy name.
            default: stands in for a tensor that is not there; None means that it must be.

        Raises:
            LoadError: (stage "read") when the tensor is missing, or has another shape or type, or is not finite.
        """


def take_from(source: str, tensors: Mapping[str, NDArray[Any]]) -> Take:
    """Return what takes tensors out of `tensors`; `source` names them in errors."""

    def take(
        key: str, shape: tuple[int | None, ...], dtype: str = "float32", *, default: NDArray[Any] | None = None
    ) -> NDArray[Any]:
        tensor = tensors.get(key, default)
        if tensor is None:
            raise LoadError("read", f"{source}: no tensor {key!r}")
        if not _fits(tensor.shape, shape) or tensor.dtype != dtype:
            wanted = f"{dtype} {['any' if size is None else size for size in shape]}"
            raise LoadError("read", f"{source}: {key} is {tensor.dtype} {list(tensor.shape)}, not {wanted}")
        if not np.isfinite(tensor).all():
            raise LoadError("read", f"{source}: {key} holds values that are not finite")
        return tensor

    return take


def _fits(shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    return len(shape) == len(wanted) and all(want in (None, have) for want, have in zip(wanted, shape, strict=True))


class Rule(Protocol):
    """The tensors of one rule. Immutable."""

    def scores(self, kept: Sequence[int]) -> Scores:
        """Return what scores the classes `kept` [K] alone, one or more, in that order."""


class StoredRule(Rule, Protocol):
    """A rule with tensors of its own in the files of a version."""

    @classmethod
    def read(cls, take: Take, *, classes: int, length: int) -> Self:
        """Take what it needs for C `classes` and features of `length` d; other tensors are not looked at.

        Raises:
            LoadError: as `take` does.
        """
