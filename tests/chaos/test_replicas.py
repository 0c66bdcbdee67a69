"""Three servers on one store: all go where the store says, also one that slept through the commit."""

from __future__ import annotations

import time
from contextlib import ExitStack

import pytest

from accrete import Client
from benchmarks.waiting import until
from tests.chaos.processes import Place
from tests.learner_service.helpers import digits

NAMES = ("one", "two", "three")


@pytest.fixture(scope="module")
def image():
    return digits(0, 1)[0].tensor


def test_servers_follow_a_commit_catch_up_after_missing_it_and_roll_back_together(due: Place, image):
    servers = {name: due.server(name=name) for name in NAMES}
    with ExitStack() as stack:
        clients = {name: stack.enter_context(due.client(server, name)) for name, server in servers.items()}
        assert answers(clients, image) == {1}

        asleep = servers["three"]
        asleep.pause()
        learner = due.learner()
        until(lambda: due.store.registry.state().version == 2, due.log)
        committed = time.monotonic()
        awake = {name: clients[name] for name in ("one", "two")}
        until(lambda: answers(awake, image) == {2}, "the new version on all that are awake")
        print(f"all on the new version after {time.monotonic() - committed:.2f} s")
        asleep.go_on()
        woken = time.monotonic()
        until(lambda: answers(clients, image) == {2}, "the new version on the one that slept")
        print(f"caught up after {time.monotonic() - woken:.2f} s")

        clients["one"].activate(1)
        rolled = time.monotonic()
        until(lambda: answers(clients, image) == {1}, "the old version on all")
        print(f"rolled back after {time.monotonic() - rolled:.2f} s")
        assert learner.stop() == 0


def answers(clients: dict[str, Client], image) -> set[int]:
    """The versions that answer now."""
    return {client.predict(image).version for client in clients.values()}
