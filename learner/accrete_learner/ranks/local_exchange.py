"""What ranks of one machine tell each other through memory that they share.

A step sends few numbers very often: sixty-two times a batch of ResNet-32, for batch normalisation alone. Over the
loopback interface each time costs as much as a layer of the network; here it is two copies and a byte through a pipe.

Shapes: R ranks.
"""

from __future__ import annotations

import mmap
import os
import select

import torch
from torch import Tensor

#: Bytes that a rank may send at a time.
CAPACITY = 1 << 18
#: While the others read what was sent last, the next is written beside it.
_BUFFERS = 2


class LocalExchange:
    """Memory and pipes of R ranks. It is made before they are forked; then each says once which rank it is."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._memory = torch.frombuffer(mmap.mmap(-1, _BUFFERS * size * CAPACITY), dtype=torch.uint8)
        self._memory = self._memory.view(_BUFFERS, size, CAPACITY)
        pairs = [(sender, receiver) for sender in range(size) for receiver in range(size) if sender != receiver]
        self._pipes = {pair: os.pipe() for pair in pairs}
        self._rank = 0
        self._round = 0
        self._to: dict[int, int] = {}
        """By rank, this one's end of the pipe to it."""
        self._from: dict[int, int] = {}

    def join(self, rank: int) -> None:
        """Be this rank, and leave the ends of pipes that are others'. Hence a rank that ends is noticed by all."""
        self._rank = rank
        for (sender, receiver), (read, write) in self._pipes.items():
            if receiver == rank:
                self._from[sender] = read
            else:
                os.close(read)
            if sender == rank:
                self._to[receiver] = write
            else:
                os.close(write)

    def close(self) -> None:
        """Close this rank's ends of the pipes."""
        for end in (*self._to.values(), *self._from.values()):
            os.close(end)

    def takes(self, tensor: Tensor) -> bool:
        """Return whether a tensor may be sent: the same on all ranks if it is of one type and shape on all."""
        return tensor.device.type == "cpu" and 0 < tensor.nbytes <= CAPACITY

    def gathered(self, own: Tensor, timeout_s: float) -> Tensor:
        """Return [R * n, ...] of all ranks, from [n, ...] of each. All ranks call this in the same order.

        Raises:
            RuntimeError: another rank has ended, or nothing came from it in time.
        """
        memory = self._memory[self._round % _BUFFERS, :, : own.nbytes]
        self._round += 1
        memory[self._rank].view(own.dtype).copy_(own.reshape(-1))
        # A rank that has this byte has what was written before it: the kernel orders memory for both.
        for rank, end in self._to.items():
            try:
                os.write(end, b"\0")
            except BrokenPipeError:
                raise RuntimeError(f"rank {rank} has ended") from None
        for rank, end in self._from.items():
            _wait_for(rank, end, timeout_s)
        return memory.reshape(-1).view(own.dtype).view(self.size * len(own), *own.shape[1:]).clone()


def _wait_for(rank: int, end: int, timeout_s: float) -> None:
    waiting = select.poll()
    waiting.register(end, select.POLLIN)
    if not waiting.poll(timeout_s * 1000):
        raise RuntimeError(f"nothing came from rank {rank} in {timeout_s:.0f} s")
    if not os.read(end, 1):
        raise RuntimeError(f"rank {rank} has ended")
