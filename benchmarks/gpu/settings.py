"""What a part is run with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Of a run."""

    work: Path
    """Kept between calls."""
    device: str
    """`cuda`, or `cpu` in a rehearsal."""
    tiny: bool
    """The smallest sizes with which each line of a part is still run."""

    @property
    def on_gpu(self) -> bool:
        """Whether it is the real thing."""
        return self.device == "cuda"
