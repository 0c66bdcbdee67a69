"""Ids of examples, and positions in a stream."""

import hashlib
from functools import lru_cache
from typing import Any

import numpy as np


def content_digest(label: str, tensor: np.ndarray) -> bytes:
    """BLAKE2b, 16 bytes, over label, dtype, shape and values; in hexadecimal the id of an example without one."""
    head = f"{label}\0{_form(tensor.dtype, tensor.shape)}\0".encode()
    return hashlib.blake2b(head + tensor.tobytes(), digest_size=16).digest()


@lru_cache(maxsize=64)
def _form(dtype: np.dtype[Any], shape: tuple[int, ...]) -> str:
    """A model's inputs have one; to make it takes longer than to look it up."""
    return f"{dtype.str}\0{','.join(map(str, shape))}"


def holdout_rank(example_id: str) -> int:
    """A number from 0 to 2^64 - 1 that depends on the id alone, uniform over ids."""
    return int.from_bytes(hashlib.blake2b(example_id.encode(), digest_size=8, person=b"holdout").digest())


def is_holdout(example_id: str, share: float) -> bool:
    """Whether an id falls into the hold-out: decided at arrival, the same whenever a step happens to run."""
    return holdout_rank(example_id) < share * 2**64


def position_key(position: str) -> tuple[int, int]:
    """A stream position "milliseconds-sequence" as a pair that compares in stream order."""
    milliseconds, _, sequence = position.partition("-")
    return int(milliseconds), int(sequence)


def position_after(position: str) -> str:
    """The smallest position greater than this one."""
    milliseconds, sequence = position_key(position)
    return f"{milliseconds}-{sequence + 1}"
