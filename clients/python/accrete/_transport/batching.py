"""Lists of items that fit into one call."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


async def each(items: Iterable[T] | AsyncIterable[T]) -> AsyncGenerator[T, None]:
    """Yield the items of either kind of iterable."""
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item


async def batches(
    items: AsyncIterable[T], *, count: int, limit: int, size: Callable[[T], int]
) -> AsyncGenerator[list[T], None]:
    """Yield lists of at most `count` items whose sizes sum to at most `limit`; a larger item comes alone."""
    batch: list[T] = []
    total = 0
    async for item in items:
        if batch and (len(batch) == count or total + size(item) > limit):
            yield batch
            batch, total = [], 0
        batch.append(item)
        total += size(item)
    if batch:
        yield batch
