"""The ranks that work on one step, and what they tell each other.

Shapes: N examples of a batch that all ranks work on, n of them a rank's own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from numpy.typing import NDArray
from torch import Tensor, distributed

from accrete_learner.ranks.local_exchange import LocalExchange

T = TypeVar("T")

#: Numbers of all ranks together up to which a sum is made of what all of them send to all: in one round and not in two.
_FEW = 1 << 16
#: Seconds that a rank waits for another: the first chooses exemplars alone.
WAITS_S = 600.0
#: Its name since torch 2.14, and before.
_all_gather = getattr(distributed, "all_gather_single", None) or distributed.all_gather_into_tensor


@dataclass(frozen=True, eq=False)
class Group:
    """R ranks, of which this process is one. A group of one does nothing, at no cost.

    All ranks call the same methods in the same order. Results are the same bits on each.
    """

    rank: int = 0
    size: int = 1
    """R."""
    processes: distributed.ProcessGroup | None = None
    """None for the processes of all ranks."""
    local: LocalExchange | None = None
    """Between ranks that all run on this machine."""

    def shard(self, count: int) -> Shard:
        """Return this rank's share of `count` examples that all ranks know."""
        return Shard(self, count)

    def add_up(self, *tensors: Tensor) -> None:
        """Replace each tensor by its sum over the ranks. All have the same type and device."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        if self.local is not None and flat.device.type == "cpu":
            self.local.add_up(flat, WAITS_S)
        elif self.size * len(flat) <= _FEW:
            flat = self.shard(self.size).gathered(flat[None]).sum(0)
        else:
            distributed.all_reduce(flat, group=self.processes)
        totals = torch.split(flat, [tensor.numel() for tensor in tensors])
        shaped = [total.view(tensor.shape) for tensor, total in zip(tensors, totals, strict=True)]
        torch._foreach_copy_(list(tensors), shaped)

    def numbers(self, own: NDArray[Any]) -> NDArray[Any]:
        """Return [R, *own.shape], a few numbers of each rank."""
        if self.size == 1:
            return own[None]
        if self.local is not None:
            return self.local.rows(own, WAITS_S)
        array: NDArray[Any] = self.rows(torch.from_numpy(own)).numpy()
        return array

    def rows(self, own: Tensor) -> Tensor:
        """Return [R, *own.shape], the tensor of each rank. It has a gradient where `own` has."""
        if self.size == 1:
            return own[None]
        return self.shard(self.size).gather(own[None])

    def agreed(self, value: T) -> T:
        """Return the first rank's value."""
        return self.once(lambda: value)

    def once(self, function: Callable[[], T], generator: torch.Generator | None = None) -> T:
        """Return what `function` returns on the first rank, which alone calls it.

        Args:
            function: of which each rank needs the result. Its tensors are on the CPU.
            generator: that it draws from; it is as far on every rank afterwards.
        """
        if self.size == 1:
            return function()
        told: list[Any] = [None, None]
        if self.rank == 0:
            told = [function(), None if generator is None else generator.get_state()]
        distributed.broadcast_object_list(told, group=self.processes, group_src=0)
        if generator is not None:
            generator.set_state(told[1])
        value: T = told[0]
        return value


ALONE = Group()
"""One process without others."""


@dataclass(frozen=True, eq=False)
class Shard:
    """One rank's share of N examples: as many as another rank's or one more, perhaps none."""

    group: Group
    count: int
    """N."""

    @property
    def rows(self) -> slice:
        """This rank's examples among all."""
        return self._rows_of(self.group.rank)

    @property
    def own_count(self) -> int:
        """n."""
        return len(range(self.count)[self.rows])

    def _rows_of(self, rank: int) -> slice:
        size = self.group.size
        return slice(rank * self.count // size, (rank + 1) * self.count // size)

    def gather(self, own: Tensor) -> Tensor:
        """Return [N, ...] of all ranks, from each rank's [n, ...].

        A gradient of what is returned is that of a loss which every rank computes in full: each takes its own rows.
        """
        if self.group.size == 1:
            return own
        gathered: Tensor = _Gather.apply(own, self)
        return gathered

    def gathered(self, own: Tensor) -> Tensor:
        """Return the same without a gradient."""
        sizes = [len(range(self.count)[self._rows_of(rank)]) for rank in range(self.group.size)]
        # All ranks send as much as the largest has.
        most, sent = max(sizes), own.contiguous()
        if len(own) < most:
            sent = torch.cat((sent, own.new_zeros(most - len(own), *own.shape[1:])))
        local = self.group.local
        if local is not None and local.takes(sent):
            received = local.gathered(sent, WAITS_S)
        else:
            received = own.new_empty(most * len(sizes), *own.shape[1:])
            _all_gather(received, sent, group=self.group.processes)
        if min(sizes) == most:
            return received
        return torch.cat([rows[:size] for rows, size in zip(torch.split(received, most), sizes, strict=True)])


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own: Tensor, shard: Shard) -> Tensor:
        ctx.rows = shard.rows
        return shard.gathered(own.detach())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient[ctx.rows], None
