"""Ids of examples, and positions in a stream."""

import hashlib
from functools import lru_cache
from typing import Any

import numpy as np


def content_digest(label: str, tensor: np.ndarray) -> bytes:
    """Return 16 bytes of BLAKE2b over label, dtype, shape and values as stored: an earlier release's ids were these."""
    head = f"{label}\0{_form(tensor.dtype, tensor.shape)}\0".encode()
    hashed = hashlib.blake2b(head, digest_size=16)
    hashed.update(np.ascontiguousarray(tensor).data)
    return hashed.digest()


def sent_digest(label: str, form: str, data: bytes) -> bytes:
    """Return 16 bytes of BLAKE2b over label, form and bytes as sent, in hexadecimal an example's id if it has none.

    Args:
        label: the example's.
        form: says how the bytes are to be read, such as "encoded", or a tensor's dtype and shape.
        data: the bytes, before anything of them is dropped.
    """
    hashed = hashlib.blake2b(f"{label}\0{form}\0".encode(), digest_size=16, person=b"as sent")
    hashed.update(data)
    return hashed.digest()


@lru_cache(maxsize=64)
def _form(dtype: np.dtype[Any], shape: tuple[int, ...]) -> str:
    """Return dtype and shape as text; a model's inputs all have the same, so it is kept."""
    return f"{dtype.str}\0{','.join(map(str, shape))}"


def holdout_rank(example_id: str) -> int:
    """Return a number from 0 to 2^64 - 1 that depends on the id alone, uniform over ids."""
    return int.from_bytes(hashlib.blake2b(example_id.encode(), digest_size=8, person=b"holdout").digest())


def is_holdout(example_id: str, share: float) -> bool:
    """Return whether an example belongs to the hold-out, by its id alone, so that it does not matter when steps run."""
    return holdout_rank(example_id) < share * 2**64


def position_key(position: str) -> tuple[int, int]:
    """Return a stream position "milliseconds-sequence" as a pair that compares in stream order."""
    milliseconds, _, sequence = position.partition("-")
    return int(milliseconds), int(sequence)


def position_after(position: str) -> str:
    """Return the smallest position greater than this one."""
    milliseconds, sequence = position_key(position)
    return f"{milliseconds}-{sequence + 1}"
