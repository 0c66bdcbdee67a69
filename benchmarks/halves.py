"""One half of the machine's cores for what is measured, the other for who asks, so that neither takes the other's."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from benchmarks.node import Node

SETTINGS = {
    "model.backbone": "resnet32",
    "model.input_size": "32",
    "model.channels": "3",
    "training.base_epochs": "1",
    "training.epochs": "1",
    "engine.device": "cpu",
}
"""Of a node with the papers' network on a CPU, which learns in seconds and knows little."""


def halves() -> tuple[set[int], set[int]]:
    """Return the cores for what is measured and those for who asks, the same one where there is one."""
    cores = sorted(os.sched_getaffinity(0))
    half = len(cores) // 2
    return set(cores[:half] or cores), set(cores[half:])


@contextmanager
def node_on_one_half(
    folder: Path, teach: Callable[[Node], None], settings: Mapping[str, str] | None = None
) -> Iterator[tuple[Node, set[int]]]:
    """Yield a node on one half of the cores, once `teach` has taught it, and the other cores for who asks.

    This process runs on the other half meanwhile. Its server computes one call at a time for each of its cores.
    """
    theirs, ours = halves()
    folder.mkdir(exist_ok=True)
    settings = SETTINGS | {"server.concurrency": str(len(theirs))} | dict(settings or {})
    node = Node(folder, settings=settings)
    with on(theirs):
        node.start()
    try:
        teach(node)
        with on(ours):
            yield node, ours
    finally:
        node.stop()


@contextmanager
def on(cores: set[int]) -> Iterator[None]:
    """Run this process on these cores for a while, and what it starts meanwhile for good."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
