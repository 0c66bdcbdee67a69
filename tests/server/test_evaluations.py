"""How versions judged, one by one and beside each other: through the SDK and on the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

import pytest

import accrete
from accrete.cli import main
from accrete_storage.versions.judgements import Judged
from tests.model.artifacts import Recipe

from .world import World

LABELS = ("cat", "<b>owl", "dog")


@pytest.fixture
def client(world: World) -> Iterator[accrete.Client]:
    with accrete.Client(world.server().server.address) as client:
        yield client


def commit(world: World, answers: Mapping[str, str] | None) -> None:
    """Publish a version with its answers to images by id, such as "cat-3": the label, and its probability if not 1."""
    judged = []
    for name, answer in (answers or {}).items():
        predicted, _, probability = answer.partition(" ")
        label = name.partition("-")[0]
        judged.append(Judged(id=name, label=label, predicted=predicted, probability=float(probability or 1)))
    version = world.store.registry.next_version()
    world.publish(version, Recipe(labels=LABELS), judged=None if answers is None else judged)


FIRST = {
    "cat-0": "cat",
    "cat-1": "<b>owl 0.5",
    "cat-2": "<b>owl 0.75",
    "<b>owl-0": "cat 0.625",
    "<b>owl-1": "<b>owl",
    "dog-0": "dog",
    "dog-1": "dog",
}
SECOND = {**FIRST, "cat-1": "cat", "dog-0": "cat 0.25", "dog-1": "<b>owl 0.5", "dog-2": "dog"}


def test_an_evaluation_has_classes_in_order_of_arrival_confusions_by_number_and_the_surest_mistakes_first(
    world: World, client: accrete.Client
) -> None:
    commit(world, FIRST)
    found = client.evaluation(1)
    assert (found.version, found.examples) == (1, 7)
    assert [(one.label, one.correct, one.examples) for one in found.classes] == [
        ("cat", 1, 3),
        ("<b>owl", 1, 2),
        ("dog", 2, 2),
    ]
    cat, _, dog = found.classes
    assert (cat.low, cat.high) == pytest.approx((0.0615, 0.7923), abs=1e-4), "Wilson's interval of 1 of 3"
    assert (dog.low, dog.high) == pytest.approx((0.3424, 1.0), abs=1e-4)
    assert [(one.label, one.predicted, one.examples) for one in found.confusions] == [
        ("cat", "<b>owl", 2),
        ("<b>owl", "cat", 1),
    ]
    assert [(one.id, one.label, one.predicted, one.probability) for one in found.mistakes] == [
        ("cat-2", "cat", "<b>owl", 0.75),
        ("<b>owl-0", "<b>owl", "cat", 0.625),
        ("cat-1", "cat", "<b>owl", 0.5),
    ]


def test_what_is_deleted_or_forgotten_is_in_no_evaluation(world: World, client: accrete.Client) -> None:
    commit(world, FIRST)
    assert client.delete_examples(["cat-2"]).deleted == 1
    assert [one.id for one in client.evaluation(1).mistakes] == ["<b>owl-0", "cat-1"]
    client.forget_class("cat")
    found = client.evaluation(1)
    assert [one.label for one in found.classes] == ["<b>owl", "dog"]
    assert [(one.label, one.examples) for one in found.confusions] == [("<b>owl", 1)]
    assert ([one.id for one in found.mistakes], found.examples) == (["<b>owl-0"], 4)


def test_two_versions_are_compared_on_the_images_that_both_judged(world: World, client: accrete.Client) -> None:
    commit(world, FIRST)
    commit(world, SECOND)
    found = client.compare(1, 2)
    assert found.examples == 7
    assert [(one.label, one.examples, one.base_correct, one.other_correct) for one in found.classes] == [
        ("dog", 2, 2, 0),
        ("<b>owl", 2, 1, 1),
        ("cat", 3, 1, 2),
    ]
    assert [(one.id, one.label, one.base_predicted, one.other_predicted) for one in found.gained] == [
        ("cat-1", "cat", "<b>owl", "cat")
    ]
    assert [(one.id, one.other_predicted) for one in found.lost] == [("dog-1", "<b>owl"), ("dog-0", "cat")]
    back = client.compare(2, 1)
    assert [one.id for one in back.gained] == ["dog-0", "dog-1"]
    assert client.compare(1, 1).lost == ()


def test_a_version_that_judged_more_than_is_kept_does_not_look_worse_than_it_is(
    world: World, client: accrete.Client
) -> None:
    many = {f"cat-{n}": "dog 0.9" if n % 5 == 0 else "cat" for n in range(4000)}
    commit(world, many)
    commit(world, dict.fromkeys(many, "cat"))
    found = client.compare(1, 2)
    [cat] = found.classes
    assert 1000 <= found.examples < 2000
    assert cat.other_correct == cat.examples == found.examples
    assert cat.base_correct / cat.examples == pytest.approx(0.8, abs=0.05)
    assert len(found.gained) == cat.examples - cat.base_correct
    assert client.evaluation(1).examples == 4000
    assert [(one.label, one.examples) for one in client.evaluation(1).confusions] == [("cat", 800)]


def test_a_version_of_which_nothing_is_kept_says_why(world: World, client: accrete.Client) -> None:
    with pytest.raises(accrete.NotNow, match="nothing is learned yet: no version judges anything"):
        client.evaluation()
    with pytest.raises(accrete.NotFound, match="no such version: 1"):
        client.evaluation(1)
    commit(world, None)
    commit(world, FIRST)
    with pytest.raises(accrete.NotNow, match="version 1: nothing is kept of how it judged images: it was made by an"):
        client.evaluation(1)
    with pytest.raises(accrete.NotNow, match="version 1: nothing is kept"):
        client.compare(2, 1)
    world.store.registry.activate(1)
    world.store.registry.mark_retired(2)
    with pytest.raises(accrete.NotNow, match="version 2: nothing is kept of how it judged images: its files are gone"):
        client.compare(2, 1)


def test_the_commands_show_a_version_two_beside_each_other_and_classes_with_their_interval(
    world: World, client: accrete.Client, capsys: pytest.CaptureFixture[str]
) -> None:
    commit(world, FIRST)
    commit(world, SECOND)
    server = ["--address", client._caller.endpoint.target]

    assert main(["versions", "--compare", "1", "2", *server]) == 0
    printed = capsys.readouterr().out
    assert "7 examples that both judged" in printed
    rows = [line.split() for line in printed.splitlines()]
    assert ["dog", "100.0", "%", "of", "2", "0.0", "%", "of", "2", "-2"] in rows
    assert ["dog", "dog", "cat", "dog-0"] in rows
    assert "2 that only v1 has right" in printed

    assert main(["mistakes", "1", *server]) == 0
    printed = capsys.readouterr().out
    assert "version 1: 4 of 7 (57.1 %) right" in printed
    assert ["cat", "<b>owl", "75.0", "%", "cat-2"] in [line.split() for line in printed.splitlines()]
    assert main(["mistakes", "1", "--json", *server]) == 0
    assert json.loads(capsys.readouterr().out)["mistakes"][0]["id"] == "cat-2"
    assert main(["mistakes", "9", *server]) != 0
    assert "no such version: 9" in capsys.readouterr().err


def test_classes_have_the_live_versions_accuracy_with_its_interval(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    commit(world, {name: answer for name, answer in FIRST.items() if not name.startswith("dog")})
    running = world.server()
    assert main(["classes", "--address", running.server.address]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[0][-4:] == ["accuracy", "95", "%", "interval"]
    assert rows[1][-8:] == ["33.3", "%", "of", "3", "6", "to", "79", "%"]
    assert rows[3][-2:] == ["-", "-"], "nothing measures it"
    assert main(["classes", "--json", "--address", running.server.address]) == 0
    cat, owl, dog = json.loads(capsys.readouterr().out)
    assert (cat["label"], cat["state"], cat["judged"]["correct"]) == ("cat", "learned", 1)
    assert (owl["judged"]["examples"], dog["judged"]["examples"]) == (2, 0)
    commit(world, None)
    running.serves(2)
    assert main(["classes", "--address", running.server.address]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[-2:] == ["-", "-"], "an earlier release made it"
