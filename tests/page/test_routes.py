"""What the page answers, with a real server behind it."""

from __future__ import annotations

from collections.abc import Callable

from tests.page.conftest import Browser
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
