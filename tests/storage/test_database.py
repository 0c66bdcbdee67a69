"""What the store is sent is what redis-py would send, in one piece."""

from __future__ import annotations

from typing import Any

import redis
from hypothesis import given
from hypothesis import strategies as st

from accrete_storage.database import InOnePiece

_WORDS = st.lists(st.one_of(st.text(), st.binary(), st.integers(), st.floats(), st.just(bytes(7000))), max_size=9)


@given(name=st.sampled_from(["GET", "CONFIG GET"]), words=_WORDS)
def test_a_command_is_one_piece_of_the_same_bytes(name: str, words: list[str | bytes | float]) -> None:
    connection: Any = redis.Connection
    (packed,) = InOnePiece().pack(name, *words)
    assert packed == b"".join(connection().pack_command(name, *words))
