"""What the page answers, with a real server behind it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from accrete_server.access.config import AccessConfig
from benchmarks.waiting import until
from tests.page.conftest import Browser
from tests.server.test_access import principals
from tests.server.world import World, example

Pages = Callable[..., Browser]


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
