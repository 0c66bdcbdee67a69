"""The stream of events: what tabs hear, what they hear again, and what a tab costs that nobody reads."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from accrete_node.page import Server
from accrete_node.settings import load_settings
from accrete_page import live, serving
from accrete_server.access.config import AccessConfig
from benchmarks.waiting import free_port, until
from tests.page.conftest import Browser
from tests.page.test_routes import PNG
from tests.server.test_access import principals
from tests.server.world import World, example

Pages = Callable[..., Browser]


@dataclass(frozen=True)
class Message:
    """One server-sent event."""

    kind: str
    data: Any
    id: str = ""


class Stream:
    """An open stream, as a tab has it."""

    def __init__(self, browser: Browser, after: str = "") -> None:
        self._connection = http.client.HTTPConnection(urlsplit(browser.address).netloc, timeout=300)
        headers = {"Cookie": "; ".join(f"{one.name}={one.value}" for one in browser.jar)}
        self._connection.request("GET", "/api/events", headers=headers | ({"Last-Event-ID": after} if after else {}))
        self._response = self._connection.getresponse()
        assert self._response.status == 200, self._response.read()
        assert self._response.headers["Content-Type"] == "text/event-stream; charset=utf-8"

    def messages(self) -> Iterator[Message]:
        lines: dict[str, str] = {}
        while line := self._response.readline():
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name:
                lines[name] = value
            elif "data" in lines:
                yield Message(lines["event"], json.loads(lines["data"]), lines.get("id", ""))
                lines = {}

    def next(self, kind: str) -> Message:
        """Wait for a message of a kind, and return it."""
        return next(one for one in self.messages() if one.kind == kind)

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def tab() -> Iterator[Callable[..., Stream]]:
    """Opens streams."""
    opened: list[Stream] = []

    def open_(browser: Browser, after: str = "") -> Stream:
        opened.append(Stream(browser, after))
        return opened[-1]

    yield open_
    for one in opened:
        one.close()


def test_all_tabs_hear_what_happens_by_one_stream_of_the_servers(
    world: World, page: Pages, tab: Callable[..., Stream], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(live, "LINGER_S", 0.1)
    running = world.server()
    browser = page(running.server.address)
    tabs = [tab(browser), tab(browser)]
    assert [one.next("now").data["status"]["version"] for one in tabs] == [0, 0]
    until(lambda: running.server.stream_limit.open == 1)
    world.publish(1)
    heard = [one.next("committed") for one in tabs]
    assert heard[0] == heard[1]
    assert heard[0].data["version"] == 1
    assert heard[0].data["accuracy"]["old"] is None
    running.add(example("fox", 1))
    assert any(one.data["pending"] for one in tabs[0].messages() if one.kind == "now" and one.data["pending"])
    assert running.server.stream_limit.open == 1
    for one in tabs:
        one.close()
    until(lambda: running.server.stream_limit.open == 0)


def test_a_tab_that_comes_back_hears_what_it_missed(world: World, page: Pages, tab: Callable[..., Stream]):
    running = world.server()
    browser = page(running.server.address)
    first = tab(browser)
    first.next("now")
    until(lambda: running.server.stream_limit.open == 1)
    world.publish(1)
    seen = first.next("committed")
    first.close()
    world.publish(2)
    until(lambda: running.status().active_version == 2)
    again = tab(browser, after=seen.id)
    assert again.next("committed").data["version"] == 2
    other = page(running.server.address)  # a page that has been started anew knows no event
    assert tab(other, after=seen.id).next("committed").data["version"] == 2
    tab(page(running.server.address), after="nonsense").next("now")


def test_a_server_that_goes_and_comes_is_told(world: World, page: Pages, tab: Callable[..., Stream]):
    port = free_port()
    running = world.server(port=port)
    browser = page(running.server.address)
    stream = tab(browser)
    assert stream.next("server").data == {"reachable": True}
    until(lambda: running.server.stream_limit.open == 1)
    world.stop(running)
    assert stream.next("server").data == {"reachable": False}
    refused = browser.get("api/now")
    assert (refused.status, refused.code) == (503, "UNAVAILABLE")
    world.publish(1)
    again = world.server(port=port)
    assert stream.next("server").data == {"reachable": True}
    assert stream.next("now").data["status"]["version"] == 1
    until(lambda: again.server.stream_limit.open == 1)
    world.publish(2)
    assert any(one.data["version"] == 2 for one in stream.messages() if one.kind == "committed")


def test_a_server_that_comes_back_at_another_port_is_found(world: World, page: Pages, tab: Callable[..., Stream]):
    settings = load_settings({"data_dir": str(world.data_dir), "server": {"port": 0}}, resolved=True)
    browser = page(Server(settings).target)
    assert "not started yet" in browser.get("api/now").message
    running = world.server()
    stream = tab(browser)
    assert stream.next("server").data == {"reachable": True}
    world.stop(running)
    assert stream.next("server").data == {"reachable": False}
    again = world.server()
    assert again.server.port != running.server.port
    assert [one.data for one in stream.messages() if one.kind == "server"] == []
    assert tab(browser).next("server").data == {"reachable": True}


def test_the_tabs_of_a_session_end_with_it_and_no_others(
    world: World, page: Pages, tab: Callable[..., Stream], tmp_path: Path
):
    names = principals(tmp_path, app="predict,teach")
    running = world.server(access=AccessConfig(tokens=str(tmp_path / "tokens")))
    browser = page(running.server.address)
    other = Browser(browser.address)
    for one in (browser, other):
        one.post("api/session", {"token": names["app"]})
    ending, going_on = tab(browser), tab(other)
    for stream in (ending, going_on):
        stream.next("now")
    browser.delete("api/session")
    other.post("api/teach?label=fox", PNG)
    assert [one for one in ending.messages() if one.kind == "now" and one.data["pending"]] == []
    assert any(one.data["pending"] for one in going_on.messages() if one.kind == "now")


def test_a_tab_of_a_token_that_is_taken_back_ends(
    world: World, page: Pages, tab: Callable[..., Stream], tmp_path: Path
):
    names = principals(tmp_path, app="predict")
    browser = page(world.server(access=AccessConfig(tokens=str(tmp_path / "tokens"))).server.address)
    assert browser.get("api/events").status == 401
    browser.post("api/session", {"token": names["app"]})
    stream = tab(browser)
    stream.next("now")
    (tmp_path / "tokens").write_text("")
    assert [one.kind for one in stream.messages() if one.kind not in ("now", "server")] == []
    assert browser.get("api/events").status == 401


def test_a_tab_is_let_in_while_the_server_is_away(page: Pages, tab: Callable[..., Stream]):
    assert tab(page(f"127.0.0.1:{free_port()}")).next("server").data == {"reachable": False}


def is_open(here: int, there: int) -> bool:
    """Return whether the kernel has a connection of this side, between two ports (proc(5), /proc/net/tcp)."""
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return any((int(row[1][9:], 16), int(row[2][9:], 16)) == (here, there) for row in rows)


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="this kernel ends no connection that is stuck")
def test_a_tab_that_nobody_reads_is_cut_and_holds_up_no_other(
    world: World, page: Pages, tab: Callable[..., Stream], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(live, "STUCK_S", 1.0)
    monkeypatch.setattr(serving, "STUCK_MS", 1000)
    running = world.server()
    browser = page(running.server.address)
    where = urlsplit(browser.address)
    stream = tab(browser)
    stream.next("now")
    until(lambda: running.server.stream_limit.open == 1)
    with socket.socket() as silent:
        silent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        silent.connect((where.hostname, where.port))
        silent.sendall(f"GET /api/events HTTP/1.1\r\nHost: {where.netloc}\r\n\r\n".encode())
        until(lambda: is_open(where.port or 0, silent.getsockname()[1]))
        for number in range(80):  # far more than the sockets' buffers hold
            world.store.events.append("phase", {"phase": "waiting", "reason": f"{number} {'x' * 100_000}"})
            assert stream.next("phase").data["reason"].startswith(f"{number} ")
        until(lambda: not is_open(where.port or 0, silent.getsockname()[1]))
    assert browser.get("api/session").status == 200
