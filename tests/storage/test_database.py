"""What the store is sent is what redis-py would send, in fewer pieces."""

from __future__ import annotations

from typing import Any

import redis
from hypothesis import given
from hypothesis import strategies as st

from accrete_storage.redis.database import LargePieces

_LARGE = st.integers(1, 2).map(lambda count: bytes(count * LargePieces.SIZE))
_WORDS = st.lists(st.one_of(st.text(), st.binary(), st.integers(), st.floats(), _LARGE), max_size=9)


@given(name=st.sampled_from(["GET", "CONFIG GET"]), words=_WORDS)
def test_a_command_is_the_same_bytes_in_few_pieces(name: str, words: list[str | bytes | float]) -> None:
    connection: Any = redis.Connection
    pieces = LargePieces().pack(name, *words)
    assert b"".join(pieces) == b"".join(connection().pack_command(name, *words))
    assert len(pieces) == 1 + sum(isinstance(word, bytes) and len(word) >= LargePieces.SIZE for word in words)
