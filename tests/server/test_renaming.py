"""Classes that are renamed and merged, as callers see it: in answers, lists, versions, and in what they send again."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import numpy as np
import pytest

import accrete
from accrete.cli import main
from accrete.v1 import curation_pb2
from accrete_model.config import EngineConfig
from accrete_model.loaded_version import load
from accrete_server.access.audit import facts
from accrete_server.inbox.config import InboxConfig
from accrete_storage.examples.example import Example
from accrete_storage.versions.prototypes import Prototype
from benchmarks.waiting import until
from tests.model.artifacts import Recipe

from .world import Running, World, pixels

LABELS = ("cat", "dog", "owl")


@pytest.fixture
def running(world: World) -> Running:
    """A server of version 2, which knows three classes; version 1 knows two of them."""
    world.publish(1)
    world.publish(2, Recipe(labels=LABELS))
    return world.server()


@pytest.fixture
def client(running: Running) -> Iterator[accrete.Client]:
    with accrete.Client(running.server.address) as client:
        yield client


def answers(client: accrete.Client, seed: int = 1) -> dict[str, float]:
    (answer,) = client.predict([pixels(seed)], top_k=10)
    return {ranked.label: ranked.probability for ranked in answer.ranked}


def learn(world: World, version: int, labels: tuple[str, ...], taught: str) -> None:
    """Commit a version that has learned what is pending of a label."""
    upto = world.store.pending.read(taught)[-1].position
    before = world.store.registry.latest_ready()
    learned = {} if before is None else before.learned
    recipe = Recipe(labels=labels)
    world.publish(version, recipe, learned={**learned, taught: upto}, consumed={taught: upto})


def test_answers_lists_and_versions_carry_the_new_label_at_once(world: World, client: accrete.Client) -> None:
    before = answers(client)
    client.add_examples([("dog", pixels(5), "d5")])
    assert client.rename_class("dog", "grey wolf") == 1
    assert answers(client) == {"grey wolf" if label == "dog" else label: share for label, share in before.items()}
    assert [one.label for one in client.classes()] == ["cat", "grey wolf", "owl"]
    assert [one.labels for one in client.versions()] == [("cat", "grey wolf", "owl"), ("cat", "grey wolf")]
    client.activate(1)
    assert set(answers(client)) == {"cat", "grey wolf"}
    (event,) = [one for one in _events(client, 1) if isinstance(one, accrete.ClassRenamed)]
    assert (event.label, event.new_label, event.merged) == ("dog", "grey wolf", False)


def _events(client: accrete.Client, renamed: int) -> list[accrete.Event]:
    """All events up to the nth renaming."""
    found: list[accrete.Event] = []
    for event in client.watch(after="0"):
        found.append(event)
        if sum(isinstance(one, accrete.ClassRenamed) for one in found) == renamed:
            break
    return found


def test_two_classes_are_answered_as_one(world: World, client: accrete.Client) -> None:
    before = answers(client)
    unknown = [one.unknown for one in client.predict([pixels(seed) for seed in range(8)])]
    assert client.merge_classes("dog", "cat") == 0
    now = answers(client)
    assert now.keys() == {"cat", "owl"}
    assert now["cat"] == pytest.approx(before["cat"] + before["dog"], abs=1e-6)
    assert now["owl"] == pytest.approx(before["owl"], abs=1e-6)
    assert [one.unknown for one in client.predict([pixels(seed) for seed in range(8)])] == unknown
    assert [one.label for one in client.classes()] == ["cat", "owl"]
    assert client.status().classes == 2
    client.activate(1)
    assert answers(client) == {"cat": pytest.approx(1)}
    client.forget_class("cat")
    client.activate(2)
    assert answers(client).keys() == {"owl"}


def test_no_answer_and_no_list_has_both_labels_or_neither(client: accrete.Client) -> None:
    client.add_examples([("dog", pixels(5))])
    stop, seen = threading.Event(), (set[frozenset[str]](), set[frozenset[str]]())

    def look(found: set[frozenset[str]], labels: Callable[[], Iterable[str]]) -> None:
        while not stop.is_set():
            found.add(frozenset(labels()))

    def both_saw(labels: frozenset[str]) -> bool:
        return all(labels in found for found in seen)

    looks = (lambda: answers(client), lambda: [one.label for one in client.classes()])
    threads = [threading.Thread(target=look, args=pair) for pair in zip(seen, looks, strict=True)]
    for thread in threads:
        thread.start()
    try:
        for before, after in [("dog", "wolf"), ("wolf", "dog")] * 4:
            client.rename_class(before, after)
            until(partial(both_saw, frozenset({"cat", after, "owl"})), "both to see it")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert seen == ({frozenset({"cat", name, "owl"}) for name in ("dog", "wolf")},) * 2


def test_a_provisional_class_is_renamed(world: World, client: accrete.Client) -> None:
    direction = np.eye(Recipe().feature_length, dtype=np.float32)[0]
    client.add_examples([("newt", pixels(5))])
    world.store.prototypes.put(2, {"newt": Prototype(vector=direction, count=1)}, -2.0)
    world.store.events.append("provisional", {"label": "newt", "examples": 1})
    until(lambda: "newt" in answers(client))
    client.rename_class("newt", "crested newt")
    assert answers(client).keys() == {*LABELS, "crested newt"}
    states = {one.label: one.state for one in client.classes()}
    assert states["crested newt"] == "provisional"


def test_what_is_sent_again_under_either_label_is_stored_once(world: World, client: accrete.Client) -> None:
    images = [pixels(seed) for seed in range(3)]
    first = client.add_examples([("dog", image) for image in images])
    own = client.add_examples([("dog", pixels(9), "mine")])
    client.rename_class("dog", "wolf")
    for label in ("dog", "wolf"):
        again = client.add_examples([(label, image) for image in images])
        assert (again.stored, again.duplicates) == (0, 3)
        assert again.ids == first.ids
        assert client.add_examples([(label, pixels(9), "mine")]).duplicates == 1
    assert own.stored == 1
    refused = client.add_examples([("wolf", pixels(10), "mine")]).refused
    assert [one.reason for one in refused] == ["id: stored before with another label or image"]
    (pending,) = [one for one in client.classes() if one.pending]
    assert (pending.label, pending.pending) == ("wolf", 4)


def test_who_waits_for_an_example_hears_of_it_whatever_its_class_is_called_by_then(
    world: World, client: accrete.Client, running: Running
) -> None:
    client.add_examples([("dog", pixels(1), "d1")])
    client.add_examples([("owl", pixels(2), "o2")])
    heard: list[int] = []

    waiting = threading.Thread(target=lambda: heard.append(client.wait_learned(["d1", "o2"], timeout=60)))
    waiting.start()
    until(lambda: running.server.stream_limit.open == 1)
    client.rename_class("dog", "wolf")
    learn(world, 3, ("cat", "wolf", "owl"), "wolf")
    client.merge_classes("wolf", "cat")
    client.rename_class("cat", "pet")
    learn(world, 4, ("pet", "owl"), "owl")
    waiting.join(60)
    assert heard == [4]
    assert client.wait_learned(["d1"], timeout=60) == 4


def test_bad_input_changes_nothing(world: World, client: accrete.Client) -> None:
    client.add_examples([("newt", pixels(5))])
    for new_label, reason in (
        ("", "new_label: empty"),
        (" dog", "new_label: starts or ends with a blank"),
        ("do\u200bg", "new_label: holds U\\+200B"),
        ("cafe\u0301", "new_label: not in Unicode normal form C"),
        ("x" * 300, "new_label: 300 bytes of UTF-8; max_label_bytes is 256"),
        ("dog", "new_label: 'dog' is what it is called already"),
    ):
        with pytest.raises(accrete.InvalidInput, match=reason):
            client.rename_class("dog", new_label)
    with pytest.raises(accrete.AlreadyExists, match="there is a class newt already: merge dog into it"):
        client.rename_class("dog", "newt")
    with pytest.raises(accrete.NotFound, match="no such label: fox"):
        client.rename_class("fox", "wolf")
    with pytest.raises(accrete.InvalidInput, match="label: starts or ends with a blank"):
        client.rename_class(" fox", "wolf")
    with pytest.raises(accrete.NotFound, match="no such label: wolf; to call dog that, rename it"):
        client.merge_classes("dog", "wolf")
    with pytest.raises(accrete.InvalidInput, match="into: 'dog' cannot become part of itself"):
        client.merge_classes("dog", "dog")
    with pytest.raises(accrete.InvalidInput, match="labels are text"):
        client.rename_class(3, "wolf")  # type: ignore[arg-type]
    assert [one.label for one in client.classes()] == [*LABELS, "newt"]


def test_the_audit_log_has_both_labels() -> None:
    assert facts(curation_pb2.RenameClassRequest(label="dog", new_label="wolf")) == {
        "label": "dog",
        "new_label": "wolf",
    }
    assert facts(curation_pb2.MergeClassesRequest(label="dog", into="cat")) == {"label": "dog", "into": "cat"}


def test_what_it_costs_is_said_before_it_is_done(
    running: Running, client: accrete.Client, capsys: pytest.CaptureFixture[str]
) -> None:
    at = ["--address", running.server.address]
    client.add_examples([("dog", pixels(5))])
    assert main(["rename", "dog", "wolf", *at]) == 2
    assert "dog is wolf from now on in every answer, list and version, with 1 pending" in capsys.readouterr().err
    assert main(["rename", "dog", "wolf", "--yes", *at]) == 0
    assert capsys.readouterr().out == "dog is wolf now, with 1 examples\n"
    assert main(["merge", "wolf", "cat", *at]) == 2
    assert "wolf becomes part of cat for good, with 1 pending" in capsys.readouterr().err
    assert main(["merge", "wolf", "cat", "--yes", "--json", *at]) == 0
    assert json.loads(capsys.readouterr().out) == {"examples": 1}
    assert main(["watch", "--after", "0", "--count", "6", *at]) == 0
    told = capsys.readouterr().out
    assert "renamed      dog is wolf now\n" in told
    assert "renamed      wolf is part of cat now\n" in told


def test_the_inbox_calls_what_it_shows_by_its_label_of_now(world: World) -> None:
    world.publish(1, Recipe(labels=LABELS, head="cosine"))
    running = world.server(inbox=InboxConfig(enabled=True, margin=1.0))
    with accrete.Client(running.server.address) as client:
        for seed in (1, 2):
            client.predict(pixels(seed))
        until(lambda: client.inbox().open == 2)
        asked, other = (item.id for item in client.inbox(order="newest").items)
        (labelled,) = client.label_inbox({asked: "dog"})
        assert labelled.outcome == "stored"
        client.rename_class("dog", "wolf")
        (entry,) = world.store.pending.read("wolf")
        world.store.stage("step-2", {"wolf": [entry.example]}, {})
        learn(world, 2, ("cat", "wolf", "owl"), "wolf")
        client.merge_classes("wolf", "cat")
        (waiting,) = client.inbox().items
        assert waiting.id == other
        assert {ranked.label for ranked in waiting.labels} == {"cat", "owl"}
        assert sum(ranked.probability for ranked in waiting.labels) == pytest.approx(1)
        (done,) = client.inbox(state="labelled").items
        assert done.label == "cat"
        assert [one.id for one in world.store.memory.exemplars("cat")] == [asked]
        client.reopen_inbox([asked])
        assert world.store.memory.exemplars("cat") == [], "undone, wherever it is by then"


@pytest.mark.own_store
def test_without_the_store_a_server_goes_on_with_the_labels_that_it_knew(world: World) -> None:
    world.publish(1, Recipe(labels=LABELS))
    running = world.server()
    with accrete.Client(running.server.address) as client:
        client.rename_class("dog", "wolf")
        client.merge_classes("owl", "cat")
        before = answers(client)
        last_served = world.data_dir / "active.json"
        until(lambda: json.loads(last_served.read_text()).get("labels") == ["cat", "wolf", "cat"])
    world.stop(running)
    world.kill_store()
    again = world.server()
    with accrete.Client(again.server.address) as client:
        assert answers(client) == before
    loaded = load(world.artifacts.path(1), 1, EngineConfig(device="cpu"))
    assert loaded.labels == LABELS, "its files are as they were"
    loaded.close()


@pytest.mark.parametrize("odd", ["cat\u200b", "e\u0301", " cat"])
def test_a_class_that_an_earlier_release_let_in_can_be_looked_at_and_forgotten(
    world: World, client: accrete.Client, odd: str
) -> None:
    world.store.pending.add([Example(id="x", label=odd, content=pixels(3))])
    assert [one.id for one in client.examples(odd).examples] == ["x"]
    assert client.forget_class(odd).pending == 1
    for gone in (client.forget_class, client.examples, client.retry_held, client.drop_held):
        with pytest.raises(accrete.InvalidInput, match="label: "):
            gone(odd)
