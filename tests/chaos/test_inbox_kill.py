"""A server killed between storing an image's example and noting its label: the same call does the rest."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import accrete
from accrete_storage.inbox import Item, Places, Ranked, new_id
from tests.chaos.processes import Place
from tests.server.pictures import encode, picture
from tests.support.store import SharedStore


@pytest.fixture
def place(shared_store: SharedStore, tmp_path: Path) -> Iterator[Place]:
    """A store, and no version."""
    made = Place(shared_store.url, f"inbox-{tmp_path.name}", tmp_path / "data", tmp_path / "kept")
    made.store.bind_model("uint8 [8, 8, 1]")
    made.versions.mkdir()
    yield made
    made.close()


def keep(place: Place) -> str:
    """Puts an image into the inbox, as a server does; its id."""
    answered = (Ranked(label="owl", probability=0.5, provisional=False),)
    one = Item(
        id=new_id(1_795_000_000_000),
        time_ms=1_795_000_000_000,
        version=1,
        revision=0,
        labels=answered,
        unknown=False,
        why="margin",
        doubt=0.9,
        principal="",
        media_type="image/png",
        space="",
    )
    room = Places(all=9, one_principal=9)
    place.store.inbox.add(one, encode(picture(8, 8, "L"), "PNG"), np.zeros(4, np.float32), np.uint64(1), room)
    return one.id


@pytest.mark.parametrize("side", ["before", "after"])
def test_the_same_call_does_what_a_killed_server_left(place: Place, side: str) -> None:
    item_id = keep(place)
    server = place.server(f"inbox.{side}")
    place.client(server).close()  # it answers by now
    address = json.loads((place.data_dir / "server" / "server.json").read_text())["address"]
    with accrete.Client(address, retry=None) as client, pytest.raises(accrete.Unavailable):
        client.label_inbox({item_id: "heron"})
    assert server.ended() == -signal.SIGKILL, place.log("server")
    assert [entry.example.id for entry in place.store.pending.read("heron")] == [item_id]
    assert (item_id in place.store.inbox.open()) == (side == "before")

    with place.client(place.server()) as client:
        [wrong] = client.label_inbox({item_id: "crane"})
        assert (wrong.outcome, wrong.code) == ("refused", "ALREADY_EXISTS")
        assert "'heron'" in wrong.reason
        [same] = client.label_inbox({item_id: "heron"})
        assert (same.outcome, same.example_id) == ("duplicate", item_id)
        assert client.inbox(state="labelled").items[0].label == "heron"
        assert client.reopen_inbox([item_id]).changed == 1
        assert (client.status().pending, client.status().inbox_open) == (0, 1)
