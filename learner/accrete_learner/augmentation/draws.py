"""Random numbers for the images of a batch, or of a rank's share of it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from accrete_learner.ranks import Shard


@dataclass(frozen=True, slots=True)
class Draws:
    """Draws for all N images of a batch and returns those of a rank's n, so that the others' do not matter."""

    generator: torch.Generator
    shard: Shard
    device: torch.device
    """Of what is returned."""

    def integers(self, below: int) -> Tensor:
        """Draw [n, 1] integers from 0 to `below` - 1."""
        count = (self.shard.count, 1)
        drawn = torch.randint(below, count, generator=self.generator, device=self.generator.device)
        return drawn[self.shard.rows].to(self.device)

    def uniform(self) -> Tensor:
        """Draw [n, 1] numbers from 0 to 1."""
        drawn = torch.rand((self.shard.count, 1), generator=self.generator, device=self.generator.device)
        return drawn[self.shard.rows].to(self.device)

    def seed(self) -> int:
        """Draw a seed."""
        return int(torch.randint(2**31, (), generator=self.generator, device=self.generator.device))
