"""What every rule is: it is read once, prepared once for each set of masked labels, and then only multiplies.

Shapes: N images, d feature length, C classes, K of them that are not masked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, Self

from numpy.typing import NDArray

from accrete_model.vectors import Floats

Scores = Callable[[Floats], Floats]
"""Features [N, d] to scores [N, K], whose softmax is the probability."""


class Take(Protocol):
    """Takes a tensor out of a safetensors file; raises LoadError when it is missing or malformed."""

    def __call__(
        self,
        key: str,
        shape: tuple[int | None, ...],
        dtype: str = "float32",
        *,
        default: NDArray[Any] | None = None,
    ) -> NDArray[Any]:
        """The tensor called `key`, all of its values finite.

        Args:
            key: its name.
            shape: None stands for any length.
            dtype: its numpy name.
            default: stands in for a tensor that is not there; None: it must be.
        """


class Rule(Protocol):
    """The tensors of one rule. Immutable."""

    def scores(self, kept: Sequence[int]) -> Scores:
        """The scores of the classes `kept` [K] alone, one or more, in that order."""


class StoredRule(Rule, Protocol):
    """A rule with tensors of its own in the artifact."""

    @classmethod
    def read(cls, take: Take, *, classes: int, length: int) -> Self:
        """Takes what it needs for C `classes` and features of `length` d; other tensors are not looked at."""
