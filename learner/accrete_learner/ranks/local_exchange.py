"""What ranks of one machine tell each other through memory that they share.

A step sends few numbers very often: sixty-two times a batch of ResNet-32, for batch normalisation alone. Over the
loopback interface each time costs as much as a layer of the network; here it is two copies and a byte through a pipe.
The numbers are numpy's, whose operations on a few of them cost a fraction of torch's.

Shapes: R ranks.
"""

from __future__ import annotations

import mmap
import os
import select
import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

#: Bytes that a rank may send at a time. What is never sent takes no memory.
CAPACITY = 1 << 21
#: While the others read what was sent last, the next is written beside it.
_BUFFERS = 2
#: Seconds for which a rank looks for another's word again and again before it sleeps: to be woken takes about as long.
_LOOKS_S = 50e-6


class LocalExchange:
    """Memory and pipes of R ranks. It is made before they are forked; then each says once which rank it is."""

    def __init__(self, size: int) -> None:
        self.size = size
        memory = np.frombuffer(mmap.mmap(-1, _BUFFERS * size * CAPACITY), dtype=np.uint8)
        self._memory = memory.reshape(_BUFFERS, size, CAPACITY)
        pairs = [(sender, receiver) for sender in range(size) for receiver in range(size) if sender != receiver]
        self._pipes = {pair: os.pipe() for pair in pairs}
        self._rank = 0
        self._round = 0
        self._views: dict[tuple[Any, ...], NDArray[Any]] = {}
        """By shape and type, the places of what is sent, one by buffer and rank."""
        self._to: dict[int, int] = {}
        """By rank, this one's end of the pipe to it."""
        self._from: dict[int, tuple[int, select.poll]] = {}
        """By rank, this one's end of the pipe from it, and what tells when there is something in it."""

    def join(self, rank: int) -> None:
        """Be this rank, and leave the ends of pipes that are others'. Hence a rank that ends is noticed by all."""
        self._rank = rank
        for (sender, receiver), (read, write) in self._pipes.items():
            if receiver == rank:
                waiting = select.poll()
                waiting.register(read, select.POLLIN)
                self._from[sender] = read, waiting
            else:
                os.close(read)
            if sender == rank:
                self._to[receiver] = write
            else:
                os.close(write)

    def close(self) -> None:
        """Close this rank's ends of the pipes."""
        for end in (*self._to.values(), *(end for end, _ in self._from.values())):
            os.close(end)

    def takes(self, tensor: Tensor) -> bool:
        """Return whether a tensor may be sent: the same on all ranks if it is of one type and shape on all."""
        return tensor.device.type == "cpu" and 0 < tensor.nbytes <= CAPACITY

    def rows(self, own: NDArray[Any], timeout_s: float) -> NDArray[Any]:
        """Return [R, *own.shape], the numbers of each rank, in memory that the next but one call of any kind writes to.

        All ranks call this in the same order.

        Raises:
            RuntimeError: another rank has ended, or nothing came from it in time.
        """
        key = own.shape, own.dtype
        if key not in self._views:
            places = self._memory[:, :, : own.nbytes].view(own.dtype)
            self._views[key] = places.reshape(_BUFFERS, self.size, *own.shape)
        shared: NDArray[Any] = self._views[key][self._round]
        self._round = (self._round + 1) % _BUFFERS
        shared[self._rank] = own
        # A rank that has this byte has what was written before it: the kernel orders memory for both.
        for rank, end in self._to.items():
            try:
                os.write(end, b"\0")
            except BrokenPipeError:
                raise RuntimeError(f"rank {rank} has ended") from None
        for rank, (end, waiting) in self._from.items():
            if not (waiting.poll(0) or _comes(waiting, timeout_s)):
                raise RuntimeError(f"nothing came from rank {rank} in {timeout_s:.0f} s")
            if not os.read(end, 1):
                raise RuntimeError(f"rank {rank} has ended")
        return shared

    def gathered(self, own: Tensor, timeout_s: float) -> Tensor:
        """Return [R * n, ...] of all ranks, from [n, ...] of each.

        Raises:
            RuntimeError: as `rows` does.
        """
        received = torch.from_numpy(self.rows(_bytes_of(own), timeout_s).copy().reshape(-1))
        return received.view(own.dtype).view(self.size * len(own), *own.shape[1:])

    def add_up(self, flat: Tensor, timeout_s: float) -> None:
        """Replace numbers, [n] on the CPU, by their sums over the ranks, as many at a time as may be sent.

        Raises:
            RuntimeError: as `rows` does.
        """
        for part in torch.split(flat, CAPACITY // flat.element_size()):
            torch.sum(torch.from_numpy(self.rows(_bytes_of(part), timeout_s)).view(part.dtype), 0, out=part)


def _bytes_of(own: Tensor) -> NDArray[np.uint8]:
    array: NDArray[np.uint8] = own.reshape(-1).view(torch.uint8).numpy()
    return array


def _comes(waiting: select.poll, timeout_s: float) -> bool:
    """Return whether something comes in time."""
    until = time.perf_counter() + _LOOKS_S
    while time.perf_counter() < until:
        os.sched_yield()  # the other may be on this very core
        if waiting.poll(0):
            return True
    return bool(waiting.poll(timeout_s * 1000))
