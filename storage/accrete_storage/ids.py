"""Ids of examples, and positions in a stream."""

import hashlib

import numpy as np


def content_id(label: str, tensor: np.ndarray) -> str:
    """The id of an example that comes without one: 32 hex digits of its label and content."""
    return content_digest(label, tensor).hex()


def content_digest(label: str, tensor: np.ndarray) -> bytes:
    """BLAKE2b, 16 bytes, over label, dtype, shape and values."""
    digest = hashlib.blake2b(digest_size=16)
    head = f"{label}\0{tensor.dtype.str}\0{','.join(map(str, tensor.shape))}\0"
    digest.update(head.encode())
    digest.update(np.ascontiguousarray(tensor).tobytes())
    return digest.digest()


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
