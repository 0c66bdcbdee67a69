"""How a process becomes one of the ranks of a step."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from importlib import metadata

import torch
from torch import distributed
from torch._C._distributed_c10d import Store, TCPStore

from accrete_learner.ranks.group import WAITS_S, Group
from accrete_learner.ranks.local_exchange import LocalExchange

_WAITS = timedelta(seconds=WAITS_S)


@contextmanager
def joined(
    rank: int,
    size: int,
    address: str,
    *,
    listener: socket.socket | None = None,
    local: LocalExchange | None = None,
) -> Iterator[Group]:
    """Meet the other ranks, and leave them at the block's end.

    Args:
        rank: 0 to size - 1, another for each.
        size: ranks in all.
        address: host and port at which the first rank listens.
        listener: the first rank's, if it listens there already.
        local: what was made for all ranks, if all run on this machine.

    Raises:
        ValueError: when the ranks run different software.
        RuntimeError: when they do not come.
    """
    host, _, port = address.rpartition(":")
    store = TCPStore(
        host,
        int(port),
        world_size=size,
        is_master=rank == 0,
        timeout=_WAITS,
        wait_for_workers=False,
        master_listen_fd=None if listener is None else listener.detach(),
    )
    _compare(store, rank, size, software())
    # Tensors of either kind are exchanged, each by its own way.
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and distributed.is_nccl_available() else "gloo"
    distributed.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=_WAITS)
    if local is not None:
        local.join(rank)
    try:
        yield Group(rank=rank, size=size, local=local)
    finally:
        if local is not None:
            local.close()
        distributed.destroy_process_group()


def software() -> str:
    """Return what must be the same on all ranks, for people."""
    return f"accrete {metadata.version('accrete')} with torch {torch.__version__}"


def _compare(store: Store, rank: int, size: int, own: str) -> None:
    store.set(f"software/{rank}", own)
    found = [store.get(f"software/{other}").decode() for other in range(size)]
    for other, theirs in enumerate(found):
        if theirs != found[0]:
            raise ValueError(
                f"training.ranks = {size}: rank {other} runs {theirs}, the first one {found[0]}; "
                "all ranks must run the same"
            )
