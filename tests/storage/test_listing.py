"""A label's examples are listed in parts, whatever happens to them between two parts."""

from __future__ import annotations

from itertools import islice

import pytest

from accrete_storage.examples.listing import KINDS, Place
from accrete_storage.store import Store

from .conftest import examples, lease, step


def listed(store: Store, label: str, *kinds: str, after: Place | None = None, at_most: int | None = None):
    return list(islice(store.listing.read(label, kinds or KINDS, after), at_most))  # type: ignore[arg-type]


def names(found) -> list[str]:
    return [one.id for one in found]


def test_all_kinds_are_listed_in_order_and_each_place_is_where_a_listing_goes_on(connect):
    store = connect(share=0.3)
    mine = lease(store)
    store.pending.add(examples("a", 60))
    assert store.commit(step(store, mine, ["a"], per_class=30))
    store.pending.add(examples("a", 70, start=60))
    waiting = store.pending.read("a")
    store.review.set_aside(mine.epoch, "a", [(entry, "burst") for entry in waiting[:30]])

    every = listed(store, "a")
    counts = store.listing.counts("a")
    assert [one.place.kind for one in every] == [kind for kind in KINDS for _ in range(counts[kind])]
    assert counts == {
        "exemplars": 2,
        "holdout": len(store.memory.holdout("a")),
        "pending": 40,
        "review": 30,
    }
    assert [one.rank for one in every[:3]] == [1, 2, 0]
    assert names(every[-30:]) == [entry.example.id for entry in waiting[:30]]
    assert {one.reason for one in every[-30:]} == {"burst"}
    for place, one in enumerate(every):
        again = listed(store, "a", after=Place.parse(str(one.place)), at_most=2)
        assert names(again) == names(every[place + 1 : place + 3])
    assert names(listed(store, "a", "review", after=every[0].place)) == names(every[-30:])


def test_what_is_learned_released_or_deleted_between_two_parts_is_not_listed_and_nothing_comes_twice(store: Store):
    mine = lease(store)
    store.pending.add(examples("a", 90))
    first = listed(store, "a", "pending", at_most=40)
    store.pending.add(examples("a", 5, start=90))
    store.control.delete_examples(["a-39", "a-41"])
    assert names(listed(store, "a", "pending", after=first[-1].place)) == ["a-40", *(f"a-{n}" for n in range(42, 95))]
    assert store.commit(step(store, mine, ["a"]))
    assert listed(store, "a", "pending", after=first[-1].place) == []

    store.pending.add(examples("b", 3))
    entries = store.pending.read("b")
    store.review.set_aside(mine.epoch, "b", [(entry, "share") for entry in entries])
    [one] = listed(store, "b", "review", at_most=1)
    store.control.delete_examples(["b-1"])
    assert names(listed(store, "b", "review", after=one.place)) == ["b-2"]


def test_a_list_goes_on_behind_an_example_that_has_moved_and_where_one_was_that_is_gone(store: Store):
    mine = lease(store)
    kept = examples("a", 120)
    store.pending.add(kept[:1])
    commit = step(store, mine, ["a"], per_class=200)
    store.stage(commit.step_id, {"a": kept}, {})
    assert store.commit(commit)
    place = listed(store, "a", "exemplars", at_most=80)[-1].place
    store.control.delete_examples([f"a-{number}" for number in range(70)])
    assert names(listed(store, "a", after=place)) == [f"a-{number}" for number in range(80, 120)]
    store.control.delete_examples(["a-79"])
    gone = Place(kind="exemplars", index=9, mark=place.mark)
    assert names(listed(store, "a", after=gone)) == [f"a-{number}" for number in range(80, 120)]

    reading = store.listing.read("a")
    assert names(islice(reading, 25)) == [f"a-{number}" for number in [*range(70, 79), *range(80, 96)]]
    store.control.delete_examples(["a-70", "a-71"])
    assert names(reading)[0] == "a-96", "what moves within one listing is found, too"


def test_examples_are_found_by_id_wherever_they_are_also_when_their_ids_are_remembered_no_more(store: Store):
    mine = lease(store)
    store.pending.add(examples("a", 3))
    assert store.commit(step(store, mine, ["a"]))
    store.pending.add(examples("a", 40, start=3))
    entries = store.pending.read("a")
    store.review.set_aside(mine.epoch, "a", [(entries[0], "burst")])
    store._database.client.delete(store._keys.seen("a-41"))
    asked = ["a-41", "a-0", "a-5", "a-3", "b-1"]
    assert names(store.listing.find("a", asked)) == ["a-0", "a-5", "a-41", "a-3"]
    assert names(store.listing.find("a", asked, ["pending"])) == ["a-5", "a-41"]
    assert store.listing.find("b", asked) == []


def test_a_record_that_cannot_be_read_is_listed_with_what_is_wrong(store: Store):
    mine = lease(store)
    store.pending.add(examples("a", 4))
    store.review.set_aside(mine.epoch, "a", [(store.pending.read("a")[0], "burst")])
    client, keys = store._database.client, store._keys
    position = client.hkeys(keys.review_records("a"))[0]
    client.hset(keys.review_records("a"), position, b"rubbish")
    client.rpush(keys.exemplars("a"), b"more rubbish")
    found = listed(store, "a")
    assert names(found) == ["", "a-1", "a-2", "a-3", "a-0"]
    assert [bool(one.damage) for one in found] == [True, False, False, False, True]
    assert found[0].damage.startswith("a stored record of 12 bytes is no example")


@pytest.mark.parametrize(
    "text", ["", "exemplars", "pending/1", "exemplars/1/xyz", "review/1-2/3", "heap/1-2", "pending/٣-1"]
)
def test_a_text_that_is_no_place_is_refused(text: str):
    with pytest.raises(ValueError, match="is no place of a listing"):
        Place.parse(text)
