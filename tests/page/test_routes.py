"""What the page answers, with a real server behind it."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from PIL import Image

from accrete_page import requests
from accrete_server.access.config import AccessConfig
from benchmarks.waiting import until
from tests.page.conftest import SAME, Browser
from tests.server.test_access import principals
from tests.server.test_inbox import ALL, UNSURE
from tests.server.world import World, example, pixels

Pages = Callable[..., Browser]


def _png() -> bytes:
    file = BytesIO()
    Image.fromarray(pixels(3)).save(file, "png")
    return file.getvalue()


PNG = _png()


@pytest.fixture
def every(world: World, page: Pages) -> Browser:
    """A browser at a page of a server that asks for no token."""
    world.publish(1)
    return page(world.server().server.address)


def test_it_shows_what_the_server_does(world: World, page: Pages):
    world.publish(1)
    running = world.server()
    browser = page(running.server.address)
    running.add(example("fox", 1), example("fox", 2))
    session = browser.get("api/session").json
    assert session["needs_token"] is False
    assert session["signed_in"] is True
    assert session["node"] == running.status().node
    now = browser.get("api/now").json
    assert now["status"]["version"] == 1
    assert now["pending"] == [{"label": "fox", "examples": 2, "state": "pending"}]
    assert [(one["version"], one["active"], one["classes"]) for one in now["versions"]] == [(1, True, 2)]
    last = browser.get("api/classes").json[-1]
    assert (last["label"], last["state"], last["pending"]) == ("fox", "pending", 2)


def test_who_is_signed_in_sees_and_does_what_their_token_allows(world: World, page: Pages, tmp_path: Path):
    world.publish(1)
    names = principals(tmp_path, app="predict", boss="operate,metrics")
    running = world.server(access=AccessConfig(tokens=str(tmp_path / "tokens")))
    browser = page(running.server.address)
    assert browser.get("api/session").json == {"needs_token": True, "signed_in": False, "roles": [], "principal": ""}
    assert browser.get("api/now").code == "UNAUTHENTICATED"
    assert browser.post("api/session", {"token": "wrong"}).status == 401
    assert browser.post("api/session", {"token": "ä b"}).status == 400
    assert not browser.jar

    signed = browser.post("api/session", {"token": names["app"]})
    assert (signed.json["principal"], signed.json["roles"]) == ("app", ["predict"])
    (cookie,) = browser.jar
    assert names["app"] not in (cookie.value or "")
    assert "HttpOnly; Path=/; SameSite=strict" in signed.headers["Set-Cookie"]
    assert browser.get("api/now").json["versions"] is None
    refused = browser.post("api/learning/pause")
    assert (refused.status, refused.code) == (403, "PERMISSION_DENIED")

    assert browser.post("api/session", {"token": names["boss"]}).json["principal"] == "boss"
    assert browser.post("api/learning/pause").json == {"paused": True}
    assert world.store.control.paused()
    assert browser.delete("api/session").status == 200
    assert browser.get("api/session").json["signed_in"] is False


def test_a_token_that_is_taken_back_signs_out(world: World, page: Pages, tmp_path: Path):
    names = principals(tmp_path, boss="operate")
    running = world.server(access=AccessConfig(tokens=str(tmp_path / "tokens")))
    browser = page(running.server.address)
    browser.post("api/session", {"token": names["boss"]})
    (tmp_path / "tokens").write_text("")
    until(lambda: browser.get("api/now").status == 401)
    assert browser.get("api/session").json["signed_in"] is False


def test_images_are_asked_about_taught_and_seen_again(world: World, page: Pages):
    world.publish(1)
    browser = page(world.server().server.address)
    answer = browser.post("api/try", PNG).json
    assert {one["label"] for one in answer["labels"]} == {"cat", "dog"}
    assert answer["version"] == 1
    label = "<script>alert(1)</script> & ?"
    taught = browser.post(f"api/teach?label={quote(label)}", PNG).json
    assert taught["outcome"] == "stored"
    assert browser.post(f"api/teach?label={quote(label)}", PNG).json["outcome"] == "duplicate"
    assert browser.get(f"api/learned?id={taught['id']}").json == {
        "learned": False,
        "version": 1,
        "waiting": [taught["id"]],
    }
    (stored,) = browser.get(f"api/examples?label={quote(label)}").json["examples"]
    assert (stored["label"], stored["id"], stored["kind"]) == (label, taught["id"], "pending")

    where = f"api/examples/image?label={quote(label)}&id={taught['id']}&side=64"
    image = browser.get(where)
    assert (image.headers["Content-Type"], image.headers["X-Content-Type-Options"]) == ("image/png", "nosniff")
    assert image.headers["Cache-Control"] == "private, max-age=60"
    assert Image.open(BytesIO(image.content)).size == (4, 4)
    assert browser.post("api/examples/delete", {"ids": [taught["id"]]}).json["deleted"] == 1
    assert browser.get(where).status == 404


def test_what_the_model_is_unsure_of_is_labelled_and_taken_back(world: World, page: Pages):
    world.publish(1, UNSURE)
    browser = page(world.server(inbox=ALL).server.address)
    assert browser.get("api/session").json["inbox_enabled"] is True
    browser.post("api/try", PNG)
    until(lambda: browser.get("api/inbox").json["open"] == 1)
    (item,) = browser.get("api/inbox?order=look&state=OPEN").json["items"]
    assert {one["label"] for one in item["labels"]} == {"cat", "dog"}
    assert "image" not in item
    image = browser.get(f"api/inbox/image?id={item['id']}&side=64")
    assert image.headers["Content-Type"].startswith("image/")
    assert Image.open(BytesIO(image.content)).size == (4, 4)

    def label(text: str) -> Any:
        (result,) = browser.post("api/inbox/label", {"items": [{"id": item["id"], "label": text}]}).json["results"]
        return result

    assert (first := label("fox"))["outcome"] == "stored"
    assert label("fox") == first | {"outcome": "duplicate"}
    assert (label("wolf")["outcome"], label("wolf")["code"]) == ("refused", "ALREADY_EXISTS")
    assert "fox" in label("wolf")["reason"]
    assert browser.get("api/inbox?state=labelled").json["items"][0]["label"] == "fox"
    assert browser.get("api/now").json["pending"] == [{"label": "fox", "examples": 1, "state": "pending"}]
    assert browser.post("api/inbox/reopen", {"ids": [item["id"]]}).json["changed"] == 1
    assert browser.get("api/now").json["pending"] == []
    assert browser.post("api/inbox/skip", {"ids": [item["id"], "other"]}).json == {"changed": 1, "unknown": ["other"]}
    assert browser.get("api/inbox?order=some").status == 400
    assert browser.post("api/inbox/label", {"items": [{"id": 1, "label": "a"}]}).status == 400
    assert browser.get("api/inbox/image?id=other").status == 404


def test_classes_are_renamed_merged_and_forgotten(every: Browser):
    for label, image in (("fox", PNG), ("vixen", PNG)):
        assert every.post(f"api/teach?label={label}", image).status == 200
    assert every.post("api/classes/rename", {"label": "vixen", "new_label": "red fox"}).json == {"examples": 1}
    assert every.post("api/classes/rename", {"label": "red fox", "new_label": "fox"}).status == 409
    assert every.post("api/classes/merge", {"label": "red fox", "into": "fox"}).json == {"examples": 1}
    assert every.post("api/classes/merge", {"label": "fox", "into": "fox"}).status == 400
    assert every.post("api/classes/rename", {"label": "wolf", "new_label": "dingo"}).status == 404
    assert [one["label"] for one in every.get("api/classes").json if one["pending"]] == ["fox"]
    assert every.post("api/classes/forget", {"label": "fox"}).json["pending"] == 2


def test_who_may_predict_alone_sees_no_image(world: World, page: Pages, tmp_path: Path):
    world.publish(1)
    names = principals(tmp_path, app="predict", teacher="teach")
    browser = page(world.server(access=AccessConfig(tokens=str(tmp_path / "tokens"))).server.address)
    browser.post("api/session", {"token": names["teacher"]})
    taught = browser.post("api/teach?label=cat", PNG).json["id"]
    assert browser.get(f"api/examples/image?label=cat&id={taught}").status == 200
    browser.post("api/session", {"token": names["app"]})
    assert browser.get(f"api/examples/image?label=cat&id={taught}").status == 403
    assert browser.post("api/try", PNG).json["nearest"] == []


BAD: list[tuple[str, Any, int, str]] = [
    ("api/teach?label=cat", b"no image", 400, "image"),
    ("api/teach", PNG, 400, "label"),
    ("api/teach?label=%07", PNG, 400, "label"),
    ("api/teach?label=" + 300 * "x", PNG, 400, "label"),
    ("api/try", b"", 400, "empty"),
    ("api/classes/forget", {"label": 7}, 400, "label"),
    ("api/classes/forget", {"label": "fox"}, 404, "fox"),
    ("api/versions/activate", {"version": True}, 400, "version"),
    ("api/versions/activate", {"version": 99}, 404, "99"),
    ("api/learning/trigger", {"deep": False}, 409, "pending"),
    ("api/examples/delete", {"ids": [1]}, 400, "id"),
    ("api/examples/delete", [], 400, "object"),
    ("api/quarantine/review/drop", {"label": []}, 400, "label"),
    ("api/quarantine/approve", {"label": "fox"}, 404, "fox"),
]


def test_bad_input_is_told_as_a_sentence(every: Browser):
    told = {path + str(body)[:40]: every.post(path, body) for path, body, _, _ in BAD}
    assert [(one.status, said in one.message) for one, (_, _, _, said) in zip(told.values(), BAD, strict=True)] == [
        (status, True) for _, _, status, _ in BAD
    ], {name: answer.content for name, answer in told.items()}


def test_a_body_that_is_too_long_is_not_read(every: Browser):
    given = {"Content-Type": "image/png", "Content-Length": str(2**40)}
    answer = every.ask("POST", "api/try", b"", given | SAME)
    assert (answer.status, "32 MiB" in answer.message) == (413, True)


def test_what_is_not_there_is_told_so(every: Browser):
    assert every.get("api/nothing").code == "NOT_FOUND"
    assert every.get("../pyproject.toml").status == 404
    assert every.get("api/examples?label=cat&kind=some").status == 400
    assert every.get("api/examples?label=cat&size=x").status == 400
    assert every.get("api/learned").status == 400
    assert every.ask("PUT", "api/now", b"", SAME).code == "METHOD_NOT_ALLOWED"


def test_a_body_may_take_as_long_as_its_length_needs_and_one_that_stops_is_told(
    every: Browser, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(requests, "BODY_S", 1.0)
    monkeypatch.setattr(requests, "SLOWEST", 100)
    where = urlsplit(every.address)

    def sent(*pieces: bytes) -> tuple[int, str]:
        with closing(http.client.HTTPConnection(where.hostname or "", where.port, timeout=300)) as connection:
            connection.putrequest("POST", "/api/try?top_k=1")
            for name, value in (SAME | {"Content-Type": "image/png", "Content-Length": str(4 * len(PNG))}).items():
                connection.putheader(name, value)
            connection.endheaders()
            for piece in pieces:
                connection.send(piece)
                time.sleep(0.5)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    assert len(PNG) > 50
    status, _ = sent(PNG, bytes(len(PNG)), bytes(len(PNG)), bytes(len(PNG)))  # padded at its end
    assert status == 200
    status, told = sent(PNG)
    assert status == 408
    assert f"it comes too slowly: {len(PNG)} bytes of it are here" in told
