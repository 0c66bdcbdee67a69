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
    shorter_side: int = 0
    """Pixels that the shorter side of an image of another size is brought to, before its middle is taken as the input.
    0: the whole image is stretched to the input's height and width."""

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            ValueError: when the shape fits neither kind of input, or its middle would be larger than the image.
        """
        rank = 3 if self.dtype == "uint8" else 1
        if self.dtype not in DTYPES or len(self.shape) != rank or any(size < 1 for size in self.shape):
            raise ValueError(f"no model takes {self}: uint8 [height, width, channels] or float32 [length]")
        if self.dtype == "uint8" and self.shape[2] not in (1, 3):
            raise ValueError(f"{self.shape[2]} channels; 1 (grey) or 3 (RGB) are allowed")
        if self.shorter_side and (self.dtype != "uint8" or self.shorter_side < max(self.shape[:2])):
            raise ValueError(f"shorter_side = {self.shorter_side}: must be 0, or an image's longest side or more")

    @property
    def is_image(self) -> bool:
        """Whether the input is an image rather than a vector."""
        return self.dtype == "uint8"

    def __str__(self) -> str:
        cropped = f", the middle of {self.shorter_side}" if self.shorter_side else ""
        return f"{self.dtype} [{', '.join(map(str, self.shape))}]{cropped}"
