"""What one input of a model is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

DTYPES = ("uint8", "float32")


@dataclass(frozen=True)
class InputSpec:
    """Shape and type of one input, which is uint8 [height, width, channels] or float32 [length]."""

    shape: tuple[int, ...]
    dtype: Literal["uint8", "float32"]

    def __post_init__(self) -> None:
        """Check the shape.

        Raises:
            ValueError: when it fits neither kind of input.
        """
        rank = 3 if self.dtype == "uint8" else 1
        if self.dtype not in DTYPES or len(self.shape) != rank or any(size < 1 for size in self.shape):
            raise ValueError(f"no model takes {self}: uint8 [height, width, channels] or float32 [length]")
        if self.dtype == "uint8" and self.shape[2] not in (1, 3):
            raise ValueError(f"{self.shape[2]} channels; 1 (grey) or 3 (RGB) are allowed")

    @property
    def is_image(self) -> bool:
        """Whether the input is an image rather than a vector."""
        return self.dtype == "uint8"

    def __str__(self) -> str:
        return f"{self.dtype} [{', '.join(map(str, self.shape))}]"
