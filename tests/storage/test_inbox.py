"""The inbox in a real store: places, expiry, what is said about images, and what deletion reaches."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from accrete_storage.backup import read
from accrete_storage.errors import NotFound
from accrete_storage.examples.example import Example
from accrete_storage.examples.review import Selection
from accrete_storage.inbox import LABELLED_MS, Decision, Item, Places, Ranked, new_id
from accrete_storage.store import Store
from benchmarks.bucket import open_in

from .conftest import Connect, assert_counters_exact, lease, step

ROOM = Places(all=100, one_principal=100)
DAY = 86_400_000


def item(doubt: float = 0.5, principal: str = "", time_ms: int = 1_700_000_000_000) -> Item:
    return Item(
        id=new_id(time_ms),
        time_ms=time_ms,
        version=3,
        revision=0,
        labels=(Ranked(label="Söckchen", probability=0.6, provisional=False),),
        unknown=False,
        why="margin",
        doubt=doubt,
        principal=principal,
        media_type="image/png",
        space="x",
    )


def keep(store: Store, *items: Item, places: Places = ROOM) -> list[bool]:
    feature = np.array([0.5, -2.0], np.float32)
    return [store.inbox.add(one, one.id.encode(), feature, np.uint64(7), places) for one in items]


def labelled(label: str, by: str = "ann", time_ms: int = 5) -> Decision:
    return Decision(state="labelled", label=label, by=by, time_ms=time_ms)


def teach(store: Store, one: Item, label: str) -> None:
    """What labelling does: an example by the item's id, then the note."""
    store.pending.add([Example(id=one.id, label=label, content=np.zeros((2, 2, 1), np.uint8))])
    assert store.inbox.decide([one.id], labelled(label), ROOM) == [None]


def nothing_of(store: Store, one: Item) -> bool:
    """Whether no key of the inbox knows the id."""
    client, found = store._database.client, []
    for key in store._keys.inbox:
        kind = client.type(key)
        found.append(client.hexists(key, one.id) if kind == b"hash" else kind == b"zset" and client.zscore(key, one.id))
    return not any(found)


def test_what_was_kept_is_read_again(store: Store) -> None:
    one = item()
    assert keep(store, one) == [True]
    assert store.inbox.items([one.id, "inbox-none"]) == {one.id: one}
    assert store.inbox.images([one.id]) == {one.id: one.id.encode()}
    assert store.inbox.features([one.id])[one.id].tolist() == [0.5, -2.0]
    assert store.inbox.fingerprints().tolist() == [7]
    assert store.inbox.open() == {one.id: 0.5}
    assert store.inbox.count() == 1


def test_a_principal_that_has_its_share_replaces_its_own_less_doubtful_ones(store: Store) -> None:
    places = Places(all=10, one_principal=2)
    ann = [item(doubt, "ann") for doubt in (0.3, 0.5)]
    bob = item(0.1, "bob")
    assert keep(store, *ann, bob, places=places) == [True] * 3
    assert keep(store, item(0.3, "ann"), places=places) == [False], "no more doubtful than what is there"
    better = item(0.4, "ann")
    assert keep(store, better, places=places) == [True]
    assert set(store.inbox.open()) == {ann[1].id, bob.id, better.id}
    assert nothing_of(store, ann[0])


def test_where_all_places_are_taken_whoever_has_most_makes_room(store: Store) -> None:
    places = Places(all=5, one_principal=5)
    ann, bob = [item(0.9, "ann", time) for time in (3, 1, 2)], [item(0.1, "bob") for _ in range(2)]
    keep(store, *ann, *bob, places=places)
    newcomer = item(0.2, "cy")
    assert keep(store, newcomer, places=places) == [True]
    assert set(store.inbox.open()) == {ann[0].id, ann[2].id, *(one.id for one in bob), newcomer.id}, "the oldest is out"


def test_the_places_hold_for_more_than_a_script_reads_at_once(store: Store) -> None:
    places = Places(all=1005, one_principal=1005)
    keep(store, *(item(number / 2000, f"p{number % 7}") for number in range(1010)), places=places)
    assert store.inbox.count() == 1005


def test_a_label_stays_and_the_other_is_told_whose_it_is(store: Store) -> None:
    one, other = item(), item()
    keep(store, one, other)
    assert store.inbox.decide([one.id], Decision(state="skipped", time_ms=1), ROOM) == [None]
    assert store.inbox.decide([one.id], labelled("sock"), ROOM) == [None]
    answers = store.inbox.decide([one.id, "inbox-none", other.id], labelled("shoe", "bob"), ROOM)
    assert answers == [labelled("sock"), "gone", None]
    assert store.inbox.decide([one.id], Decision(state="skipped"), ROOM) == [labelled("sock")]
    assert store.inbox.open() == {}


def test_of_what_was_labelled_or_skipped_as_many_stay_as_there_are_places(store: Store) -> None:
    places = Places(all=3, one_principal=3)
    for number in range(5):
        one = item()
        keep(store, one, places=places)
        store.inbox.decide([one.id], Decision(state="skipped", time_ms=number), places)
    assert sorted(one.time_ms for one in store.inbox.decisions().values()) == [2, 3, 4]


def test_what_is_old_goes_and_a_label_can_be_undone_for_its_day(store: Store) -> None:
    now = 1_700_000_000_000
    old, new, skipped, done, fresh = (item(time_ms=now - age) for age in (15 * DAY, DAY, 20 * DAY, 30 * DAY, 30 * DAY))
    keep(store, old, new, skipped, done, fresh)
    store.inbox.decide([skipped.id], Decision(state="skipped", time_ms=now), ROOM)
    store.inbox.decide([done.id], labelled("sock", time_ms=now - LABELLED_MS - 1), ROOM)
    store.inbox.decide([fresh.id], labelled("sock", time_ms=now - LABELLED_MS + 1), ROOM)
    assert store.inbox.expire(now, 14 * DAY) == 3
    assert set(store.inbox.items([one.id for one in (old, new, skipped, done, fresh)])) == {new.id, fresh.id}
    assert nothing_of(store, old)


def test_a_damaged_item_is_passed_over(store: Store) -> None:
    one, damaged = item(), item()
    keep(store, one, damaged)
    store._database.client.hset(store._keys.inbox_items, damaged.id, b"{")
    assert store.inbox.items([damaged.id, one.id]) == {one.id: one}


@pytest.mark.parametrize("place", ["pending", "in review", "learned"])
def test_reopening_deletes_the_example_wherever_it_is(store: Store, place: str) -> None:
    one = item(doubt=0.125)
    keep(store, one)
    teach(store, one, "sock")
    if place == "in review":
        store.review.set_aside(lease(store).epoch, "sock", [(store.pending.read("sock")[0], "burst")])
    if place == "learned":
        store.commit(step(store, lease(store), ["sock"], features={"sock": {one.id: b"12"}}))
        assert [example.id for example in store.memory.exemplars("sock")] == [one.id]
    assert store.control.reopen([one.id, "inbox-none"]) == [one.id]
    assert store.inbox.open() == {one.id: 0.125}
    assert store.inbox.decisions() == {}
    assert store.pending.locate([one.id]) == {}
    assert store.memory.exemplars("sock") == []
    assert store.features.ids("sock") == set()
    assert_counters_exact(store)
    teach(store, one, "shoe")
    assert [entry.example.id for entry in store.pending.read("shoe")] == [one.id], "another label can be given"
    assert store.control.reopen([one.id, one.id]) == [one.id]
    assert store.control.reopen([one.id]) == [], "it is open"


def test_what_was_learned_and_is_not_kept_can_be_labelled_anew(store: Store) -> None:
    one = item()
    keep(store, one)
    store.pending.add([Example(id=f"n{n}", label="sock", content=np.zeros((2, 2, 1), np.uint8)) for n in range(2)])
    teach(store, one, "sock")
    store.commit(step(store, lease(store), ["sock"]))  # which keeps the first two
    assert store.control.reopen([one.id]) == [one.id]
    teach(store, one, "shoe")
    assert len(store.pending.read("shoe")) == 1


def test_deleting_reaches_the_image_and_the_example_by_one_id(store: Store) -> None:
    waiting, taught, kept = item(), item(), item()
    keep(store, waiting, taught, kept)
    teach(store, taught, "sock")
    before = store.registry.state().revision
    assert store.control.delete_examples([waiting.id]).deleted == 1
    assert store.registry.state().revision == before, "no step has seen it"
    result = store.control.delete_examples([taught.id, "nobody"])
    assert (result.deleted, result.unknown) == (1, ["nobody"])
    assert nothing_of(store, waiting)
    assert nothing_of(store, taught)
    assert store.pending.read("sock") == []
    assert store.inbox.open() == {kept.id: 0.5}


def test_forgetting_a_class_takes_the_images_labelled_so(store: Store) -> None:
    sock, shoe, waiting = item(), item(), item()
    keep(store, sock, shoe, waiting)
    teach(store, sock, "sock")
    teach(store, shoe, "shoe")
    store.control.forget_class("sock")
    assert nothing_of(store, sock)
    assert store.inbox.decisions() == {shoe.id: labelled("shoe")}
    assert store.inbox.open() == {waiting.id: 0.5}
    with pytest.raises(NotFound):
        store.control.forget_class("sock")


@pytest.mark.parametrize("merge", [False, True])
def test_a_class_that_is_called_otherwise_is_so_in_the_inbox(store: Store, merge: bool) -> None:
    answered = (("Söckchen", 0.5), ("shoe", 0.3), ("sock", 0.2))
    ranked = tuple(Ranked(label=label, probability=share, provisional=False) for label, share in answered)
    waiting, taught = (replace(item(), labels=ranked) for _ in range(2))
    keep(store, waiting, taught)
    teach(store, taught, "Söckchen")
    if merge:
        store.pending.add([Example(id="other", label="sock", content=np.zeros((2, 2, 1), np.uint8))])
        store.renaming.merge("Söckchen", "sock")
        wanted = [("sock", 0.7), ("shoe", 0.3)]
    else:
        store.renaming.rename("Söckchen", "Strümpfe")
        wanted = [("Strümpfe", 0.5), ("shoe", 0.3), ("sock", 0.2)]
    found = store.inbox.items([waiting.id])[waiting.id]
    assert [one.label for one in found.labels] == [label for label, _ in wanted]
    assert [one.probability for one in found.labels] == pytest.approx([share for _, share in wanted])
    assert replace(found, labels=ranked) == waiting, "nothing else has changed"
    assert store.inbox.decisions()[taught.id].label == wanted[0][0]
    assert store.control.reopen([taught.id]) == [taught.id]
    assert taught.id not in {entry.example.id for entry in store.pending.read(wanted[0][0])}
    store.inbox.decide([taught.id], labelled(wanted[0][0]), ROOM)
    teach(store, waiting, wanted[0][0])
    store.control.forget_class(wanted[0][0])
    assert nothing_of(store, taught)


def test_what_an_operator_drops_leaves_no_image(store: Store) -> None:
    held, reviewed = item(), item()
    keep(store, held, reviewed)
    teach(store, held, "sock")
    teach(store, reviewed, "shoe")
    store.review.set_aside(lease(store).epoch, "shoe", [(store.pending.read("shoe")[0], "burst")])
    store._database.client.hset(store._keys.quarantine, "sock", '{"count": 1, "attempts": 1, "reason": "x"}')
    assert store.quarantine.drop("sock") == 1
    assert store.review.drop(Selection(label="shoe")) == 1
    assert nothing_of(store, held)
    assert nothing_of(store, reviewed)


def test_a_backup_has_the_inbox(connect: Connect, tmp_path: Path) -> None:
    store, other = connect(), connect(prefix=f"restored-{tmp_path.name}")
    one, said = item(), item()
    keep(store, one, said)
    teach(store, said, "sock")
    store.back_up(tmp_path / "backup", open_in(tmp_path))
    other.restore(read(tmp_path / "backup"), open_in(tmp_path / "others"))
    assert other.inbox.open() == store.inbox.open()
    assert other.inbox.items([one.id, said.id]) == store.inbox.items([one.id, said.id])
    assert other.inbox.images([one.id, said.id]) == store.inbox.images([one.id, said.id])
    assert other.control.reopen([said.id]) == [said.id]
    assert other.pending.read("sock") == []
    for key in list(other._database.client.scan_iter(match="{restored}*")):
        other._database.client.delete(key)
