"""What the store keeps of deep steps."""

from __future__ import annotations

from accrete_storage.deep import LastDeepStep
from accrete_storage.store import Store


def test_a_request_is_taken_once(store: Store):
    assert not store.deep.take_request()
    store.deep.request()
    store.deep.request()
    assert store.deep.take_request()
    assert not store.deep.take_request()


def test_what_is_told_is_kept_with_what_the_last_was_made_of(store: Store):
    assert store.deep.text() == ""
    assert store.deep.last() == LastDeepStep(examples=0, classes=0)
    store.deep.tell("kept", LastDeepStep(examples=200, classes=4))
    store.deep.tell("training")
    assert store.deep.text() == "training"
    assert store.deep.last() == LastDeepStep(examples=200, classes=4)
