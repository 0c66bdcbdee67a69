"""Which view a request gets, and when a version is freed."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from accrete_model.config import EngineConfig
from accrete_model.loaded_version import LoadedVersion, load
from accrete_server.errors import NoModel
from accrete_server.versions.slots import Slot, Slots, View
from tests.model.artifacts import Recipe, write_artifact


@pytest.fixture
def make(tmp_path):
    """Makes a view of a freshly loaded version."""

    def make(version: int) -> View:
        path = write_artifact(tmp_path / str(version), Recipe(seed=version))
        loaded = load(path, version, EngineConfig(device="cpu"))
        return View(slot=Slot(loaded), classifier=loaded.classifier())

    return make


def _is_closed(loaded: LoadedVersion) -> bool:
    try:
        loaded.features(np.zeros((1, 4, 4, 3), np.uint8))
    except AttributeError:
        return True
    return False


def test_without_a_version_there_is_a_sentence_on_how_to_teach_one():
    with pytest.raises(NoModel, match="add examples"):
        Slots().take()


def test_the_old_version_is_freed_after_its_last_request_and_not_before(make):
    slots = Slots()
    slots.put(make(1))
    old = slots.take()
    slots.put(make(2))
    slots.reap()
    assert (slots.version, slots.resident) == (2, 2)
    assert not _is_closed(old.slot.loaded)
    slots.give_back(old)
    slots.reap()
    assert slots.resident == 1
    assert _is_closed(old.slot.loaded)


def test_a_third_version_waits_until_there_is_room(make):
    slots = Slots()
    slots.put(make(1))
    assert slots.make_room(0)
    old = slots.take()
    slots.put(make(2))
    assert not slots.make_room(0.05)
    slots.give_back(old)
    assert slots.make_room(0)


def test_another_view_of_the_same_version_frees_nothing(make):
    slots = Slots()
    first = make(1)
    slots.put(first)
    slots.put(View(slot=first.slot, classifier=first.slot.loaded.classifier(frozenset({"cat"}))))
    slots.reap()
    assert slots.resident == 1
    assert not _is_closed(first.slot.loaded)


def test_a_request_that_finds_a_freed_version_takes_the_new_one(make):
    slots = Slots()
    old, new = make(1), make(2)
    assert old.slot.close_if_idle()
    assert not old.slot.enter()
    slots.put(new)
    assert slots.take() is new


def test_a_waiting_call_hears_of_a_change_and_of_the_end(make):
    slots = Slots()
    view = make(1)
    threading.Timer(0.02, slots.put, (view,)).start()
    assert slots.wait_change(None, 10) is view
    threading.Timer(0.02, slots.close).start()
    assert slots.wait_change(view, 10) is view
    assert slots.closed


def test_no_request_computes_on_a_freed_version_however_often_it_is_swapped(make):
    slots = Slots()
    slots.put(make(1))
    stop, errors = threading.Event(), []

    def ask() -> None:
        while not stop.is_set():
            view = slots.take()
            try:
                view.slot.loaded.features(np.zeros((1, 4, 4, 3), np.uint8))
            except Exception as error:
                errors.append(error)
            finally:
                slots.give_back(view)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for version in range(2, 60):
        assert slots.make_room(10)
        slots.put(make(version))
    stop.set()
    for thread in threads:
        thread.join()
    assert not errors
