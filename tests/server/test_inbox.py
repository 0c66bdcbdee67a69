"""The inbox on a real server and store: what is kept of what callers ask, and what people make of it."""

from __future__ import annotations

import io
import json
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image

import accrete
from accrete.cli import main
from accrete.inference import service_pb2, service_pb2_grpc
from accrete.v1 import inbox_pb2
from accrete_server.access.config import AccessConfig
from accrete_server.app import Server
from accrete_server.images import ImageReader
from accrete_server.inbox import look, sampler
from accrete_server.inbox.config import InboxConfig
from accrete_server.inbox.pictures import KEPT_BYTES, KEPT_SIDE, kept, shown
from accrete_server.settings import ServerSettings
from accrete_storage.config import TeachingConfig
from accrete_storage.versions.prototypes import Prototype
from benchmarks.waiting import until
from tests.model.artifacts import Recipe, class_row

from .pictures import encode, picture
from .test_access import principals
from .world import Running, World, failure, pixels

UNSURE = Recipe(head="cosine")
"""Its probabilities are between 0 and 1, and not near them."""
ALL = InboxConfig(enabled=True, margin=1.0)
"""Keeps whatever is asked about, since two probabilities are never 1 apart."""


def client(running: Running, token: str | None = None) -> accrete.Client:
    return accrete.Client(running.server.address, retry=None, token=token)


def asked(running: Running, *seeds: int, count: int | None = None) -> list[str]:
    """Asks about images, one a call, and answers the ids of all that is open, oldest first, once there are `count`."""
    for seed in seeds:
        running.predict(seed)
    wanted = len(seeds) if count is None else count
    until(lambda: len(running.listed(order="NEWEST")) == wanted, "what was asked about", seconds=60)
    return [item.id for item in running.listed(order="NEWEST")][::-1]


def counted(running: Running, name: str, **labels: str) -> float:
    return running.server.metrics.registry.get_sample_value(f"accrete_inbox_{name}", labels) or 0.0


@pytest.fixture
def running(world: World) -> Running:
    world.publish(1, UNSURE)
    return world.server(inbox=ALL)


def test_nothing_is_kept_until_it_is_switched_on(world: World) -> None:
    world.publish(1, UNSURE)
    off = world.server()
    off.predict(1)
    with client(off) as caller:
        assert caller.inbox().items == ()
        assert not caller.status().inbox_enabled
    assert world.store.inbox.count() == 0
    assert off.server._sampler._line == []


def test_an_image_that_it_was_unsure_of_is_kept_as_it_was_answered(running: Running) -> None:
    answer = running.predict(5).predictions[0]
    [item_id] = asked(running, count=1)
    with client(running) as caller:
        page = caller.inbox(max_side=64)
        [item], image = page.items, caller.inbox_image(item_id)
        assert (page.open, page.next_page_token) == (1, "")
        assert [one.label for one in item.labels] == [one.label for one in answer.labels]
        assert item.labels[0].probability == pytest.approx(answer.labels[0].probability)
        assert item.doubt == pytest.approx(1 - answer.labels[0].probability + answer.labels[1].probability)
        assert (item.why, item.version, item.state, item.unknown, item.principal) == ("margin", 1, "open", False, "")
        assert item.image == image.image
        assert image.media_type == item.media_type == "image/png"
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(image.image))), pixels(5)), "to the pixel"
        status = caller.status()
        assert (status.inbox_enabled, status.inbox_open) == (True, 1)
    assert counted(running, "kept_total") == 1


def test_a_sure_answer_is_not_kept_and_the_threshold_is_the_distance_of_two(world: World) -> None:
    world.publish(1, UNSURE)
    distances = {}
    with client(world.server()) as caller:
        for seed in range(30):
            first, second = caller.predict(pixels(seed)).ranked[:2]
            distances[seed] = first.probability - second.probability
    unsure = [seed for seed, distance in distances.items() if distance < 0.5]
    assert 0 < len(unsure) < 30
    running = world.server(inbox=replace(ALL, margin=0.5))
    asked(running, *distances, count=len(unsure))
    kept_doubts = sorted(item.doubt for item in running.listed())
    assert kept_doubts == pytest.approx(sorted(1 - distances[seed] for seed in unsure), abs=1e-5)


def test_unknown_and_provisional_images_are_kept_for_that_reason(world: World) -> None:
    images = np.stack([pixels(seed) for seed in range(20)])
    world.publish_with_holdout(images, Recipe(labels=("cat",)))
    rules = replace(ALL, margin=0.0)
    running = world.server(Recipe(labels=("cat",)), inbox=rules)
    marks = [running.predict(seed, unknown_rate=0.1).predictions[0].unknown for seed in range(20)]
    assert 0 < sum(marks) < 20
    asked(running, count=sum(marks))
    assert {(item.why, item.doubt, item.unknown) for item in running.listed()} == {("unknown", 1.0, True)}

    vector = class_row("new", 6)
    world.store.prototypes.put(1, {"new": Prototype(count=3, vector=vector / np.linalg.norm(vector))}, margin=-2.0)
    until(lambda: running.status().provisional_classes == 1)
    top = running.predict(40).predictions[0].labels[0]
    assert top.provisional
    until(lambda: "provisional" in {item.why for item in running.listed()})


def test_one_call_of_many_images_leaves_those_alone_that_are_doubtful(running: Running) -> None:
    running.predict(*range(8))
    assert len(asked(running, count=8)) == 8
    with client(running) as caller:
        images = {caller.inbox_image(item.id).image for item in caller.inbox().items}
    found = {np.asarray(Image.open(io.BytesIO(image))).tobytes() for image in images}
    assert found == {pixels(seed).tobytes() for seed in range(8)}


def test_calls_of_the_open_inference_protocol_are_sampled_as_well(running: Running) -> None:
    stub = service_pb2_grpc.GRPCInferenceServiceStub(running.channel)
    batch = np.stack([pixels(1), pixels(2)])
    file = encode(picture(30, 20), "JPEG")
    for datatype, shape, data in (
        ("UINT8", batch.shape, batch.tobytes()),
        ("BYTES", (1,), len(file).to_bytes(4, "little") + file),
    ):
        tensor = service_pb2.ModelInferRequest.InferInputTensor(name="image", datatype=datatype, shape=shape)
        request = service_pb2.ModelInferRequest(model_name="accrete", inputs=[tensor], raw_input_contents=[data])
        stub.ModelInfer(request, timeout=300)
    asked(running, count=3)
    types = sorted(item.media_type for item in running.listed(max_side=64))
    assert types == ["image/jpeg", "image/png", "image/png"]


def test_a_label_is_taught_at_once_and_said_twice_it_is_stored_once(running: Running, world: World) -> None:
    first, second = asked(running, 1, 2)
    with client(running) as caller:
        [result] = caller.label_inbox({first: "Wäsche"})
        assert (result.outcome, result.example_id) == ("stored", first)
        [again] = caller.label_inbox({first: "Wäsche"})
        assert (again.outcome, again.example_id) == ("duplicate", first)
        refused = {one.id: one for one in caller.label_inbox({first: "sock", second: " ", "inbox-gone": "sock"})}
        assert [one.code for one in refused.values()] == ["ALREADY_EXISTS", "INVALID_ARGUMENT", "NOT_FOUND"]
        assert refused[first].reason == "it was labelled 'Wäsche' meanwhile; reopen it to label it anew"
        assert refused[second].reason == "label: empty"
        [entry] = world.store.pending.read("Wäsche")
        assert (entry.example.id, dict(entry.example.metadata)) == (first, {"source": "inbox"})
        assert np.array_equal(entry.example.tensor, pixels(1))
        [item] = caller.inbox(state="labelled").items
        assert (item.id, item.label, item.state) == (first, "Wäsche", "labelled")
        assert item.decided_ms >= item.time_ms
        assert [one.id for one in caller.inbox().items] == [second]
        with pytest.raises(accrete.NotLearned):
            caller.wait_learned([first], timeout=0.2)
    assert counted(running, "decided_total", what="labelled") == 1


def test_a_skip_and_a_label_can_be_undone(running: Running, world: World) -> None:
    first, second = asked(running, 1, 2)
    with client(running) as caller:
        caller.label_inbox({first: "sock"})
        skipped = caller.skip_inbox([first, second, "inbox-gone"])
        assert (skipped.changed, skipped.unknown) == (1, [first, "inbox-gone"])
        assert caller.inbox().items == ()
        assert [one.id for one in caller.inbox(state="skipped").items] == [second]
        reopened = caller.reopen_inbox([first, second, "inbox-gone"])
        assert (reopened.changed, reopened.unknown) == (2, ["inbox-gone"])
        assert world.store.pending.total().examples == 0
        assert caller.reopen_inbox([first]).changed == 1, "repeated after a lost answer, it says the same"
        assert caller.label_inbox({first: "shoe"})[0].outcome == "stored"


def test_of_two_people_one_wins_and_the_other_learns_who(world: World, tmp_path: Path) -> None:
    tokens = principals(tmp_path, app="predict", ann="teach", bob="teach,operate")
    world.publish(1, UNSURE)
    running = world.server(inbox=ALL, access=AccessConfig(tokens=str(tmp_path / "tokens")))
    with client(running, tokens["app"]) as app, client(running, tokens["ann"]) as ann:
        for seed in range(6):
            app.predict(pixels(seed))
        until(lambda: ann.inbox().open == 6)
        ids = [item.id for item in ann.inbox().items]
        with client(running, tokens["bob"]) as bob, ThreadPoolExecutor(2) as pool:
            gate = threading.Barrier(2)

            def label(who: accrete.Client, name: str) -> list[accrete.InboxResult]:
                gate.wait()
                return [who.label_inbox({one: name})[0] for one in ids]

            mine, theirs = pool.map(label, (ann, bob), ("sock", "shoe"))
        decided = {item.id: (item.label, item.by) for item in ann.inbox(state="labelled").items}
        for one, other in zip(mine, theirs, strict=True):
            winner, loser = (one, other) if one.outcome == "stored" else (other, one)
            assert (winner.outcome, loser.outcome, loser.code) == ("stored", "refused", "ALREADY_EXISTS")
            name = "sock" if winner is one else "shoe"
            assert repr(name) in loser.reason
            assert decided[winner.id][0] == name
        assert {item.principal for item in ann.inbox(state="labelled").items} == {"app"}
        assert world.store.pending.total().examples == 6
        who = {entry.example.principal for label in ("sock", "shoe") for entry in world.store.pending.read(label)}
        assert who <= {"ann", "bob"}
        with pytest.raises(accrete.PermissionDenied):
            app.inbox()
        with pytest.raises(accrete.PermissionDenied):
            app.inbox_image(ids[0])


def test_labels_have_the_quota_and_the_approval_that_taught_examples_have(world: World) -> None:
    world.publish(1, UNSURE)
    limits = TeachingConfig(examples_per_minute=2, approve_new_labels=True)
    running = world.server(inbox=ALL, teaching=limits, max_examples=3)
    first, second, third, fourth = asked(running, 1, 2, 3, 4)
    with client(running) as caller:
        with pytest.raises(accrete.LimitExceeded, match="examples_per_minute is 2"):
            caller.label_inbox(dict.fromkeys((first, second, third), "heron"))
        with pytest.raises(accrete.LimitExceeded, match="max_examples is 3"):
            caller.label_inbox(dict.fromkeys((first, second, third, fourth), "heron"))
        assert caller.inbox(state="labelled").items == (), "nothing of it is stored or noted"
        assert caller.label_inbox({first: "heron"})[0].outcome == "stored"
        assert [held.label for held in caller.held()] == ["heron"]
    stub = running.inbox
    twice = [inbox_pb2.LabelInboxRequest.Item(id=first, label=label) for label in ("heron", "crane")]
    failed = failure(lambda: stub.LabelInbox(inbox_pb2.LabelInboxRequest(items=twice), timeout=300))
    assert (failed.code, failed.details) == (grpc.StatusCode.INVALID_ARGUMENT, f"items[1].id: {first!r} is given twice")
    failed = failure(lambda: stub.LabelInbox(inbox_pb2.LabelInboxRequest(), timeout=300))
    assert failed.code is grpc.StatusCode.INVALID_ARGUMENT


def test_labels_are_in_the_audit_log_and_images_are_not(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    token = principals(tmp_path, ann="predict,teach")["ann"]
    world.publish(1, UNSURE)
    running = world.server(inbox=ALL, access=AccessConfig(tokens=str(tmp_path / "tokens")))

    def lines() -> dict[str, dict[str, Any]]:
        found = [vars(record) for record in caplog.records if record.name == "accrete.audit"]
        return {record["method"]: record for record in found}

    with caplog.at_level(logging.INFO), client(running, token) as ann:
        ann.predict(pixels(1))
        until(lambda: ann.inbox().open == 1, seconds=60)
        [item] = ann.inbox().items
        ann.label_inbox({item.id: "heron"})
        assert [one.by for one in ann.inbox(state="labelled").items] == ["ann"]
        ann.inbox_image(item.id)
        until(lambda: "LabelInbox" in lines(), seconds=60)  # a line is written after the answer
    assert list(lines()) == ["LabelInbox"], "looks change nothing"
    labelled = lines()["LabelInbox"]
    assert (labelled["principal"], labelled["labels"], labelled["label_count"]) == ("ann", ["heron"], 1)
    everything = json.dumps([vars(one) for one in caplog.records], default=str)
    assert pixels(1).tobytes() not in everything.encode("latin-1", "ignore")


def test_pages_go_on_while_items_leave(running: Running) -> None:
    ids = asked(running, *range(9))
    with client(running) as caller:
        for order in ("doubt", "newest", "look"):
            found, token = list[str](), ""
            while not found or token:
                page = caller.inbox(order=order, page_size=4, page_token=token)
                found += [item.id for item in page.items]
                token = page.next_page_token
            assert sorted(found) == sorted(ids), order
        doubts = [item.doubt for item in caller.inbox().items]
        assert doubts == sorted(doubts, reverse=True)
        page = caller.inbox(order="newest", page_size=4)
        assert [item.id for item in page.items] == ids[:4:-1]
        caller.skip_inbox([ids[0], ids[-1]])
        rest = caller.inbox(order="newest", page_size=200, page_token=page.next_page_token)
        assert [item.id for item in rest.items] == ids[4:0:-1]
        with pytest.raises(accrete.InvalidInput, match="page_token"):
            caller.inbox(order="look", page_token=page.next_page_token)
        for wrong in ({"page_token": "%"}, {"page_size": 201}, {"max_side": 1025}, {"order": "size"}, {"state": "x"}):
            with pytest.raises(accrete.InvalidInput, match=next(iter(wrong))):
                caller.inbox(**wrong)
    failed = failure(lambda: running.listed(order=9))
    assert failed.code is grpc.StatusCode.INVALID_ARGUMENT


def test_nearly_the_same_image_is_kept_once_even_after_it_was_skipped(running: Running) -> None:
    image = picture(40, 40)
    with client(running) as caller:
        caller.predict(encode(image, "PNG"))
        [one] = asked(running, count=1)
        caller.predict(encode(image, "JPEG", quality=80))
        until(lambda: counted(running, "dropped_total", reason="duplicate") == 1)
        caller.skip_inbox([one])
        caller.predict(encode(image, "JPEG", quality=70))
        until(lambda: counted(running, "dropped_total", reason="duplicate") == 2)
        assert caller.inbox().items == ()


def test_one_principal_cannot_fill_the_minute_or_the_places(world: World, tmp_path: Path) -> None:
    tokens = principals(tmp_path, loud="predict", quiet="predict", ann="teach")
    world.publish(1, UNSURE)
    config = replace(ALL, per_minute=8, places=6)
    running = world.server(inbox=config, access=AccessConfig(tokens=str(tmp_path / "tokens")))
    with client(running, tokens["loud"]) as loud, client(running, tokens["quiet"]) as quiet:
        for seed in range(12):
            loud.predict(pixels(seed))
        with client(running, tokens["ann"]) as ann:
            until(lambda: counted(running, "dropped_total", reason="rate") >= 8 - 4)
            loud.predict(pixels(50))
            quiet.predict(pixels(60))
            quiet.predict(pixels(61))
            until(lambda: sum(item.principal == "quiet" for item in ann.inbox().items) == 2)
            assert sum(item.principal == "loud" for item in ann.inbox().items) <= 3
    assert counted(running, "dropped_total", reason="rate") >= 1


def test_calls_never_wait_for_the_inbox_and_what_is_too_much_is_counted(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampler, "LINE", 3)
    running.server._sampler.stop()  # nobody looks at the notes
    running.predict(*range(5))
    assert counted(running, "dropped_total", reason="busy") == 2
    monkeypatch.setattr(sampler, "LINE_BYTES", 1)
    running.predict(7)
    assert counted(running, "dropped_total", reason="busy") == 3


@pytest.mark.own_store
def test_without_the_store_nothing_is_kept_and_nothing_fails(world: World) -> None:
    world.publish(1, UNSURE)
    running = world.server(inbox=ALL)
    before = running.predict(1)
    asked(running, count=1)
    world.kill_store()
    assert running.predict(2).version == before.version
    until(lambda: counted(running, "dropped_total", reason="store") >= 1)
    failed = failure(lambda: running.listed())
    assert failed.code is grpc.StatusCode.UNAVAILABLE
    world.start_store()
    until(lambda: running.status().store_alive)
    running.predict(3)
    asked(running, count=2)


def test_a_damaged_image_is_told_and_the_page_has_the_others(running: Running, world: World) -> None:
    damaged, sound = asked(running, 1, 2)
    world.store._database.client.hset(world.store._keys.inbox_images, damaged, b"no image")
    with client(running) as caller:
        found = {item.id: item.image for item in caller.inbox(max_side=32).items}
        assert found[damaged] == b""
        assert found[sound]
        with pytest.raises(accrete.NotFound, match="cannot be read"):
            caller.inbox_image(damaged, max_side=32)
        [result] = caller.label_inbox({damaged: "sock"})
        assert (result.outcome, result.code) == ("refused", "INVALID_ARGUMENT")
        with pytest.raises(accrete.NotFound, match="not in the inbox"):
            caller.inbox_image("inbox-none")


def test_a_forgotten_class_is_in_no_suggestion(running: Running, world: World) -> None:
    asked(running, 1)
    with client(running) as caller:
        assert "dog" in {one.label for one in caller.inbox().items[0].labels}
        caller.forget_class("dog")
        assert [one.label for one in caller.inbox().items[0].labels] == ["cat"]


def test_a_model_of_embeddings_refuses_the_setting_with_a_sentence(world: World) -> None:
    recipe = Recipe(shape=(4,))
    with pytest.raises(ValueError, match=r"inbox\.enabled = true: this model takes embeddings \(float32 \[4\]\)"):
        Server(ServerSettings(data_dir=world.data_dir, spec=recipe.spec, method="x", store=world.config, inbox=ALL))


READER = ImageReader(Recipe(shape=(16, 16, 3)).spec, max_pixels=25_000_000, max_bytes=10 << 20)


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_small_file_is_kept_as_it_is_without_what_describes_it(kind: str) -> None:
    exif = Image.Exif()
    exif[0x010F] = "SecretCamera"
    image = picture(60, 40)
    file, media_type = kept(encode(image, kind, exif=exif), READER)
    assert b"SecretCamera" not in file
    assert media_type == f"image/{kind.lower()}"
    plain = Image.open(io.BytesIO(encode(image, kind)))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(file))), np.asarray(plain))


@pytest.mark.parametrize(
    "content",
    [
        encode(noise(2000, 1500), "JPEG", quality=95),
        encode(noise(700, 500), "PNG"),
        encode(noise(600, 600), "BMP"),
        encode(picture(900, 30, "L"), "PNG"),
        encode(picture(300, 200, "RGBA"), "WEBP"),
        encode(picture(900, 700).convert("CMYK"), "JPEG"),
        ((700, 650), np.random.default_rng(1).integers(0, 256, (700, 650), dtype=np.uint8).tobytes()),
        ((640, 640, 4), np.random.default_rng(1).integers(0, 256, (640, 640, 4), dtype=np.uint8).tobytes()),
        ((5, 3, 1), bytes(range(15))),
    ],
    ids=["photo", "png", "bmp", "strip", "webp", "cmyk", "grey", "rgba", "tiny"],
)
def test_whatever_was_sent_is_kept_small(content: Any) -> None:
    file, media_type = kept(content, READER)
    image = Image.open(io.BytesIO(file))
    assert media_type == f"image/{(image.format or '').lower()}"
    assert max(image.size) <= KEPT_SIDE
    assert len(file) <= KEPT_BYTES
    assert READER.encoded(file).shape == (16, 16, 3), "it can be taught"
    small, _ = shown(file, media_type, 100)
    assert max(Image.open(io.BytesIO(small)).size) <= 100


def test_an_image_is_kept_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = picture(60, 40)
    file, _ = kept(encode(image, "JPEG", exif=exif, quality=95), READER)
    turned = image.transpose(Image.Transpose.ROTATE_270)
    difference = np.asarray(Image.open(io.BytesIO(file))).astype(int) - np.asarray(turned).astype(int)
    assert Image.open(io.BytesIO(file)).size == (40, 60)
    assert abs(difference).mean() < 8


def test_images_that_look_alike_are_in_one_group_and_the_largest_comes_first() -> None:
    generator = np.random.default_rng(0)
    kinds = generator.standard_normal((3, 64))
    features, kind_of = {}, {}
    for number, kind in enumerate([0, 1, 1, 2, 1, 0, 2, 1, 1, 0]):
        name = f"inbox-{number:03d}"
        features[name] = (kinds[kind] + 0.1 * generator.standard_normal(64)).astype(np.float16)
        kind_of[name] = kind
    spaces = dict.fromkeys(features, "a")
    found = look.groups(features, spaces)
    assert [len(group) for group in found] == [5, 3, 2]
    assert all(len({kind_of[name] for name in group}) == 1 for group in found)
    assert look.groups(dict(reversed(features.items())), spaces) == found, "whatever their order"
    spaces["inbox-001"] = "b"
    assert ["inbox-001"] in look.groups(features, spaces), "features of another network are not compared"
    assert look.groups({}, {}) == []


def test_the_command_line_lists_labels_and_undoes(
    running: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCRETE_ADDRESS", running.server.address)
    first, second = asked(running, 1, 2)

    def accrete_inbox(*words: str) -> tuple[int, str]:
        status = main(["inbox", *words])
        return status, capsys.readouterr().out

    status, listed = accrete_inbox("--order", "newest", "--save", str(tmp_path / "out"))
    assert status == 0
    assert [line.split()[0] for line in listed.splitlines()] == ["id", second, first]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"{first}.png", f"{second}.png"]
    assert accrete_inbox("label", "heron", first, "inbox-gone")[0] == 1, "part of it was refused"
    status, listed = accrete_inbox("--state", "labelled", "--json")
    assert (status, [(one["id"], one["label"]) for one in json.loads(listed)]) == (0, [(first, "heron")])
    assert accrete_inbox("skip", second) == (0, "1 skipped\n")
    assert accrete_inbox("reopen", first, second, "x") == (0, "2 open again, 1 not in the inbox, or no longer\n")
    assert accrete_inbox("label", "heron")[0] == accrete_inbox("skip")[0] == accrete_inbox("list", "x")[0] == 2


def test_the_command_line_says_that_it_is_off(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCRETE_ADDRESS", world.server().server.address)
    assert main(["inbox"]) == 0
    assert capsys.readouterr().out == "nothing is kept: the server's setting inbox.enabled is off\n"
