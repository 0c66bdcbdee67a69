"""Bytes of the newest version turn on the disk: answers go on, and learning says so and goes on from what is whole."""

from __future__ import annotations

import re

import numpy as np
import pytest

from accrete import Client, NotNow
from benchmarks.bucket import home_of, open_in
from benchmarks.node import Node
from benchmarks.waiting import until
from tests.support.buckets import overwrite

EXAMPLES = 45
SIZE = 5
"""Exemplars of a class."""


def teach(client: Client, digits: dict[str, list[np.ndarray]], labels: str) -> list[str]:
    report = client.add_examples((label, image) for label in labels for image in digits[label][:EXAMPLES])
    assert not report.refused
    return report.ids


WEIGHTS = "weights.safetensors"


def turn_a_byte(node: Node, version: int) -> bytes:
    """Of its weights, wherever they are at home; answers what was in the file."""
    before = (open_in(node.data_dir).path(version) / WEIGHTS).read_bytes()
    put(node, version, before[:-1] + bytes([before[-1] ^ 1]))
    return before


def put(node: Node, version: int, weights: bytes) -> None:
    overwrite(home_of(node.data_dir), open_in(node.data_dir), version, WEIGHTS, weights)


def blocked(client: Client) -> str:
    """What it says is damaged, once it says so."""
    return str(until(lambda: client.status().phase == "blocked" and client.status().phase_reason, what="blocked"))


def test_steps_wait_for_a_damaged_version_and_go_on_from_the_one_before_it_once_it_is_given_up(make_node, digits):
    node = make_node()
    with node.ready() as client:
        taught = teach(client, digits, "01")
        assert client.wait_learned(taught, timeout=300) == 1
        taught += teach(client, digits, "23")
        assert client.wait_learned(taught, timeout=300) == 2

        whole = turn_a_byte(node, 2)
        taught += teach(client, digits, "45")
        reason = blocked(client)
        assert re.fullmatch(r"version 2 is damaged: .*v000002.*/weights\.safetensors .*not match its checksum", reason)
        assert client.predict(digits["3"][-1]).version == 2
        assert client.held() == [], "no label is to blame"
        with pytest.raises(NotNow, match="version 1: its files are whole"):
            client.discard(1)
        put(node, 2, whole)
        assert client.wait_learned(taught, timeout=300) == 3
        assert {one.version: one.parent for one in client.versions()} == {1: 0, 2: 1, 3: 2}

        turn_a_byte(node, 3)
        taught += teach(client, digits, "67")
        assert blocked(client).startswith("version 3 is damaged")
        given_up = client.discard(3)
        assert (given_up.base, set(given_up.relearned)) == (2, {"4", "5"})
        assert client.wait_learned(taught, timeout=300) == 4, "no call waits for what only the lost version had learned"
        newest = client.versions()[0]
        assert (newest.parent, set(newest.new_labels)) == (2, set("4567"))
        assert set(newest.labels) == set("01234567")
        assert client.predict(digits["5"][-1]).version == 4
        _assert_nothing_is_lost_or_doubled(node, set(taught))


def _assert_nothing_is_lost_or_doubled(node: Node, ids: set[str]) -> None:
    with node.store() as store:
        assert store.pending.total().examples == 0
        records = [record for record in store.registry.versions() if record.state != "rejected"]
        assert sum(sum(record.consumed.values()) for record in records) == len(ids) == 8 * EXAMPLES
        kept = [example.id for label in "01234567" for example in store.memory.exemplars(label)]
        assert len(set(kept)) == len(kept) == 8 * SIZE
        held_out = {example.id for label in "01234567" for example in store.memory.holdout(label)}
        assert {label: bool(store.memory.holdout(label)) for label in "45"} == {"4": True, "5": True}
        assert set(kept) <= ids
        assert not held_out & set(kept)
