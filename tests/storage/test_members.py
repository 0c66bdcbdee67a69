"""Who is a member: by the store's clock alone, whatever those of the servers say."""

from __future__ import annotations

from dataclasses import replace

import pytest

from accrete_storage.members import Member
from accrete_storage.store import Store
from benchmarks.waiting import until

pytestmark = pytest.mark.integration

ONE = Member(id="a", address="10.0.0.1:50051", started_ms=1, release="0.1.0", version=3, state="serving", busyness=0.25)
OTHER = replace(ONE, id="b", address="10.0.0.2:50051", started_ms=10**15)


def test_a_member_is_one_until_its_time_is_over(store: Store):
    store.members.tell(OTHER, 60)
    assert store.members.tell(ONE, 0.05).members == [ONE, OTHER]
    until(lambda: store.members.roster().members == [OTHER])


def test_one_that_is_told_of_again_stays_and_is_as_told_last(store: Store):
    first = store.members.tell(ONE, 60)
    busier = replace(ONE, busyness=0.5, version=4)
    again = store.members.tell(busier, 60)
    assert again.members == [busier]
    assert again.revision == first.revision  # nobody came or went


def test_the_revision_grows_with_who_comes_drains_expires_and_goes(store: Store):
    revisions = [store.members.tell(ONE, 60).revision]
    revisions.append(store.members.tell(OTHER, 60).revision)
    revisions.append(store.members.tell(replace(ONE, state="draining"), 60).revision)
    store.members.remove("a")
    revisions.append(store.members.roster().revision)
    store.members.tell(OTHER, 0.01)
    until(lambda: not store.members.roster().members)
    revisions.append(store.members.roster().revision)
    assert revisions == sorted(set(revisions))
    store.members.remove("a")  # is gone already
    assert store.members.roster().revision == revisions[-1]


def test_what_a_later_release_tells_besides_is_passed_over(store: Store):
    store.members.tell(ONE, 60)
    keys = store._keys.members
    value = store._database.client.hget(keys, "a").decode()
    store._database.client.hset(keys, "a", value.replace('"id"', '"colour": "red", "id"'))
    assert store.members.roster().members == [ONE]


@pytest.mark.parametrize("value", ["{}", "[]", "no JSON", '{"id": "a"}', ""])
def test_one_that_cannot_be_read_keeps_no_other_from_being_a_member(store: Store, value: str):
    store.members.tell(ONE, 60)
    store.members.tell(OTHER, 60)
    keys = store._keys.members
    told = store._database.client.hget(keys, "a").decode()
    head = told.partition("{")[0]
    store._database.client.hset(keys, "a", head + value)
    assert store.members.roster().members == [OTHER]
