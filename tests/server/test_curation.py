"""What classes are made of, as callers look at it: over the wire, through the SDK, and on the command line."""

from __future__ import annotations

import io
import json
import pathlib
from collections.abc import Iterator

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import accrete
from accrete.cli import main
from accrete.v1 import curation_pb2, curation_pb2_grpc
from accrete_storage.examples.encoded_image import EncodedImage
from accrete_storage.examples.example import Example
from accrete_storage.examples.features import pack_features
from accrete_storage.versions.commit import Commit
from tests.model.artifacts import Recipe

from .world import World, failure, pixels

LABEL = "grey heron/<b>{é}"
"""A label that is none of the usual characters."""


@pytest.fixture
def client(world: World) -> Iterator[accrete.Client]:
    """A client of a server in the world, which knows no class yet."""
    with accrete.Client(world.server().server.address) as client:
        yield client


def keep(
    world: World,
    label: str,
    exemplars: list[Example],
    holdout: list[Example] | None = None,
    features: dict[str, dict[str, bytes]] | None = None,
) -> None:
    """Have a version that knows a label, with these exemplars, hold-out and features."""
    version = world.store.registry.next_version()
    recipe = Recipe(labels=(label,))
    lease = world.store.acquire_lease("me")
    assert lease is not None
    world.store.stage(f"s{version}", {label: exemplars}, {label: holdout or []}, features)
    record = world.record(version, recipe, "", {}, "ready")
    revision = world.store.registry.state().revision
    commit = Commit(
        epoch=lease.epoch,
        revision=revision,
        step_id=f"s{version}",
        record=record,
        consumed={},
        per_class=100,
        activate=False,
    )
    assert world.store.commit(commit)
    lease.release()


def image(number: int, label: str = LABEL, side: int = 4, **fields: object) -> Example:
    content = pixels(number, (side, side, 3))
    return Example(**{"id": f"i{number}", "label": label, "content": content} | fields)  # type: ignore[arg-type]


def decoded(data: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(data)))


def test_a_class_is_paged_through_with_its_images_whatever_its_label(world: World, client: accrete.Client) -> None:
    made = image(2, id="synthesised-1-0", made_from=frozenset({"i7"}), content=pixels(2).astype(np.float16))
    taught = [image(number, principal="ann", metadata={"n": str(number)}) for number in (0, 1)]
    keep(world, LABEL, [taught[0], made], [taught[1]])
    world.store.pending.add([image(number) for number in range(3, 8)])
    lease = world.store.acquire_lease("me")
    assert lease is not None
    world.store.review.set_aside(lease.epoch, LABEL, [(world.store.pending.read(LABEL)[0], "burst")])

    found: list[accrete.StoredExample] = []
    sizes: list[int] = []
    token = ""
    while not found or token:
        page = client.examples(LABEL, page_size=3, page_token=token, max_side=64)
        found, token, sizes = [*found, *page.examples], page.next_page_token, [*sizes, len(page.examples)]
        assert page.total == 8
    assert sizes == [3, 3, 2]
    assert [(one.id, one.kind, one.rank) for one in found] == [
        ("i0", "exemplars", 1),
        ("synthesised-1-0", "exemplars", 2),
        ("i1", "holdout", 0),
        *((f"i{number}", "pending", 0) for number in range(4, 8)),
        ("i3", "review", 0),
    ]
    first, second, *_, last = found
    assert (first.label, first.principal, first.metadata, first.synthesised) == (LABEL, "ann", {"n": "0"}, False)
    assert (second.synthesised, last.reasons, last.damage) == (True, ("burst",), "")
    assert {one.media_type for one in found} == {"image/png"}
    for number, one in zip((0, 2, 1, 4, 5, 6, 7, 3), found, strict=True):
        assert np.array_equal(decoded(one.image), pixels(number)), "a small image is exact, and no larger than stored"

    some = client.examples(LABEL, ids=["i5", "i0", "nobody"], kind="pending")
    assert [(one.id, one.image, one.media_type) for one in some.examples] == [("i5", b"", "")]
    some = client.examples(LABEL, ids=["i5", "i0", "nobody"], page_size=1)
    assert ([one.id for one in some.examples], some.total) == (["i0"], 2)
    rest = client.examples(LABEL, ids=["i5", "i0", "nobody"], page_size=1, page_token=some.next_page_token)
    assert ([one.id for one in rest.examples], rest.next_page_token) == (["i5"], "")


def test_the_exemplars_most_like_an_image_come_first(world: World, client: accrete.Client) -> None:
    names = [f"i{number}" for number in range(4)]
    features = pack_features(names, np.eye(4, 3, dtype=np.float32) + 0.1, "float16")
    keep(world, LABEL, [image(number) for number in range(5)], [image(5)], {LABEL: features})

    def order(feature: list[float], size: int = 50) -> list[str]:
        page = client.examples(LABEL, kind="exemplars", nearest_to=feature, page_size=size)
        assert (page.next_page_token, page.total) == ("", 5)
        return [one.id for one in page.examples]

    assert order([0, 0, 5]) == ["i2", "i3", "i0", "i1", "i4"], "by the angle; the last has no feature"
    assert order([0, 5, 0], 2) == ["i1", "i3"]
    assert order([1, 0]) == ["i0", "i1", "i2", "i3", "i4"], "features of another length are of another backbone"
    with pytest.raises(accrete.InvalidInput, match="nearest_to: goes with the kind EXEMPLARS alone"):
        client.examples(LABEL, nearest_to=[1, 0, 0])
    with pytest.raises(accrete.InvalidInput, match="nearest_to: values that are not finite"):
        client.examples(LABEL, kind="exemplars", nearest_to=[1, 0, np.nan])


def test_a_large_image_comes_as_it_is_stored_or_shrunk_and_never_enlarged(world: World, client: accrete.Client) -> None:
    pictured = pixels(1, (64, 96, 3))
    encoded = EncodedImage.of(pictured, 90)
    assert encoded is not None
    grey = pixels(2, (40, 20, 1))
    keep(world, "cat", [image(1, "cat", content=encoded), image(2, "cat", content=grey)])
    as_stored, plain = client.examples("cat", max_side=96).examples
    assert (as_stored.image, as_stored.media_type) == (encoded.data, "image/jpeg")
    assert np.array_equal(decoded(plain.image), grey[:, :, 0])
    shrunk, smaller = client.examples("cat", max_side=32).examples
    assert (decoded(shrunk.image).shape, shrunk.media_type) == ((21, 32, 3), "image/jpeg")
    assert (decoded(smaller.image).shape, smaller.media_type) == ((32, 16), "image/png")


def test_what_cannot_be_read_is_named_and_the_page_goes_on(world: World, client: accrete.Client) -> None:
    broken = EncodedImage(data=b"no JPEG", shape=(64, 64, 3))
    keep(world, "cat", [image(1, "cat", content=broken), image(2, "cat")])
    key = world.store._keys.exemplars("cat")
    world.store._database.client.rpush(key, b"no record")
    first, second, third = client.examples("cat", max_side=64).examples
    assert (first.id, first.image, second.damage, third.id, third.rank) == ("i1", b"", "", "", 3)
    assert (
        first.damage == "a stored image of 7 bytes cannot be decoded: cannot identify image file"[:48] or first.damage
    )
    assert third.damage.startswith("a stored record of 9 bytes is no example")


def test_embeddings_are_listed_without_an_image(world: World) -> None:
    vector = np.arange(5, dtype=np.float32)
    world.store.pending.add([Example(id="e", label="cat", content=vector)])
    with accrete.Client(world.server(Recipe(shape=(5,))).server.address) as client:
        [one] = client.examples("cat", max_side=64).examples
        assert (one.id, one.image, one.media_type, one.damage) == ("e", b"", "", "")


def test_a_page_ends_before_its_images_are_too_many(world: World) -> None:
    world.store.pending.add([image(number, "cat", side=32) for number in range(6)])
    running = world.server(max_message_bytes=20_000)
    with accrete.Client(running.server.address) as client:
        page = client.examples("cat", max_side=64)
        assert (len(page.examples), page.total) == (2, 6), "an image of noise is 3 KB"
        rest = client.examples("cat", page_token=page.next_page_token)
        assert [one.id for one in rest.examples] == [f"i{number}" for number in range(2, 6)]


def test_bad_requests_say_what_is_wrong(world: World) -> None:
    keep(world, "cat", [image(1, "cat")])
    running = world.server()
    call = curation_pb2_grpc.CurationStub(running.channel).ListExamples

    def refused(**fields: object) -> tuple[grpc.StatusCode, str]:
        request = curation_pb2.ListExamplesRequest(**{"label": "cat"} | fields)  # type: ignore[arg-type]
        found = failure(lambda: call(request, timeout=300))
        return found.code, found.details

    invalid = grpc.StatusCode.INVALID_ARGUMENT
    assert refused(label="dog") == (grpc.StatusCode.NOT_FOUND, "no such label: dog")
    assert refused(label="") == (invalid, "label: empty")
    assert refused(page_size=201) == (invalid, "page_size: 201; 1 to 200, or 0 for 50, are allowed")
    assert refused(max_side=-1) == (invalid, "max_side: -1; 0 to 1024 are allowed")
    assert refused(page_token="x") == (invalid, "page_token: not one that the page before gave")
    other = curation_pb2.StoredExample.HOLDOUT
    assert refused(page_token="pending/1-1", kind=other) == (invalid, "page_token: of a page of another kind")
    assert refused(kind=9)[0] is invalid
    assert refused(ids=["i"] * 201) == (invalid, "ids: 201; at most 200 are allowed")
    with accrete.Client(running.server.address) as client, pytest.raises(accrete.InvalidInput, match="kind: 'x'"):
        client.examples("cat", kind="x")  # type: ignore[arg-type]


def test_a_class_that_kept_nothing_has_an_empty_page(world: World, client: accrete.Client) -> None:
    keep(world, "cat", [])
    page = client.examples("cat")
    assert (page.examples, page.total, page.next_page_token) == ((), 0, "")


def test_the_command_lists_and_saves_under_harmless_names(
    world: World, client: accrete.Client, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(world, "cat", [image(1, "cat", id="../../etc/x"), image(2, "cat")])
    server = ["--address", client._caller.endpoint.target]
    assert main(["examples", "cat", "--limit", "1", *server]) == 0
    printed = capsys.readouterr().out
    assert "../../etc/x  exemplars" in printed
    assert "1 of 2; --limit 0 lists all" in printed
    assert main(["examples", "cat", "--json", "--save", str(tmp_path / "new" / "cat"), *server]) == 0
    assert [one["id"] for one in json.loads(capsys.readouterr().out)] == ["../../etc/x", "i2"]
    assert main(["examples", "cat", "--json", "--id", "i2", "--id", "nobody", *server]) == 0
    assert [one["id"] for one in json.loads(capsys.readouterr().out)] == ["i2"]
    saved = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*"))
    assert saved == [
        "new/cat/exemplars-000001-%2E%2E%2F%2E%2E%2Fetc%2Fx.png",
        "new/cat/exemplars-000002-i2.png",
    ]
    assert np.array_equal(decoded((tmp_path / saved[1]).read_bytes()), pixels(2))
