"""What the page refuses before any server sees it, and what it forbids browsers."""

from __future__ import annotations

import shutil
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from accrete import TlsConfig
from accrete.cli import main
from accrete_node.page import Server
from accrete_node.settings import SettingsError, load_settings
from accrete_page import sessions
from accrete_page.certificate import names_in
from accrete_page.serving import listen
from accrete_page.sessions import Sessions
from accrete_server.access.config import AccessConfig
from benchmarks.waiting import free_port, until
from tests.page.conftest import SAME, Browser
from tests.server.test_access import Authority, principals
from tests.server.world import World

Pages = Callable[..., Browser]


@pytest.fixture
def lonely(page: Pages) -> Browser:
    """A browser at a page whose server is not there."""
    return page(f"127.0.0.1:{free_port()}", hosts=("shop.example",))


def test_every_answer_forbids_what_the_page_does_not_need(lonely: Browser):
    for path in ("", "api/session", "api/nothing", "nothing.js"):
        headers = lonely.get(path).headers
        policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == "'self'"
        assert policy["require-trusted-types-for"] == "'script'"
        assert policy["frame-ancestors"] == "'none'"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert headers["Cache-Control"] in ("no-store", "no-cache")
        assert headers["Server"] is None


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("localhost:8080", True),
        ("127.0.0.1", True),
        ("[::1]:8080", True),
        ("192.168.1.5:8080", True),
        ("shop.example", True),
        ("SHOP.example.:8080", True),
        ("evil.example", False),
        ("shop.example.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("[::1", False),
        ("", False),
    ],
)
def test_it_answers_to_its_own_names_alone(lonely: Browser, host: str, allowed: bool):
    assert (lonely.get("", Host=host).status == 200) is allowed


def test_requests_of_other_sites_are_refused(lonely: Browser):
    own = lonely.address.rstrip("/")

    def refused(method: str, path: str, **headers: str) -> bool:
        given = {"Content-Type": "application/json"} | {name.replace("_", "-"): one for name, one in headers.items()}
        return lonely.ask(method, path, b"{}" if method == "POST" else None, given).status == 403

    for site in ("cross-site", "same-site", "none"):
        assert refused("POST", "api/learning/pause", Sec_Fetch_Site=site)
        assert refused("DELETE", "api/session", Sec_Fetch_Site=site)
    assert refused("POST", "api/learning/pause")
    assert refused("POST", "api/learning/pause", Origin="http://evil.example")
    assert refused("POST", "api/learning/pause", Origin="null")
    assert refused("POST", "api/learning/pause", Sec_Fetch_Site="cross-site", Origin=own)
    assert not refused("POST", "api/learning/pause", Origin=own)
    assert not refused("POST", "api/learning/pause", Sec_Fetch_Site="same-origin")
    assert refused("GET", "api/examples/image?label=a&id=b", Sec_Fetch_Site="cross-site")
    assert not refused("GET", "", Sec_Fetch_Site="cross-site")  # a link to it


def test_a_page_of_all_addresses_says_one_that_a_browser_can_open(page: Pages):
    browser = page(f"127.0.0.1:{free_port()}", host="0.0.0.0")
    assert browser.address.startswith("http://127.0.0.1:")
    assert browser.get("").status == 200


def test_a_body_that_a_form_can_send_is_none_of_ours(lonely: Browser):
    sent = lonely.ask("POST", "api/session", b'{"token": "a"}', SAME | {"Content-Type": "text/plain"})
    assert (sent.status, "application/json" in sent.message) == (400, True)


def test_a_server_that_is_not_there_is_told(lonely: Browser):
    answer = lonely.get("api/now")
    assert (answer.status, answer.code) == (503, "UNAVAILABLE")


def test_a_server_that_takes_calls_and_says_nothing_is_as_good_as_gone(page: Pages):
    with socket.create_server(("127.0.0.1", 0)) as mute:
        answer = page(f"127.0.0.1:{mute.getsockname()[1]}").get("api/now")
    assert (answer.status, answer.code) == (503, "UNAVAILABLE")
    assert "cannot be reached" in answer.message


def test_an_encrypted_server_is_known_by_its_certificate_and_the_page_is_encrypted_too(
    world: World, page: Pages, tmp_path: Path
):
    authority = Authority(tmp_path / "pki")
    certificate, key = authority.issue("server", "DNS:localhost,DNS:page.example")
    names = principals(tmp_path, boss="operate,metrics")
    access = {"certificate": certificate, "private_key": key, "tokens": str(tmp_path / "tokens")}
    running = world.server(access=AccessConfig(**access))  # type: ignore[arg-type]
    assert names_in(certificate, key) == ["localhost", "page.example"]
    flags = {"data_dir": str(world.data_dir), "server": {"port": 0}, "access": access}
    target = Server(load_settings(flags, resolved=True)).target()
    assert target.address == running.server.address
    trusting = ssl.create_default_context(cafile=authority.root)
    trusting.check_hostname = False  # it is for localhost
    browser = page(target.address, target.tls, trusting, certificate=certificate, private_key=key)
    assert browser.address.startswith("https://")
    assert browser.post("api/session", {"token": names["boss"]}).json["principal"] == "boss"
    assert browser.get("", Host="page.example").status == 200
    (cookie,) = browser.jar
    assert (cookie.secure, cookie.name.startswith("__Host-")) == (True, True)
    until(lambda: browser.get("api/now").json["traffic"] == {"calls_per_s": 0.0, "p50_ms": None, "p99_ms": None})
    other = Authority(tmp_path / "other")
    for made, file in zip(other.issue("server"), (certificate, key), strict=True):
        shutil.copy(made, file)

    def renewed() -> bool:
        with socket.create_connection((where.hostname, where.port)) as plain, trusting.wrap_socket(plain):
            return False

    where = urlsplit(browser.address)
    with pytest.raises(ssl.SSLCertVerificationError):
        until(renewed)
    stranger = page(target.address, TlsConfig(root_certificates=authority.root))
    assert stranger.get("api/session").status == 503


def test_sessions_end_when_they_are_idle_and_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch):
    now = 0.0
    known = Sessions(lambda: now)
    first, second = known.begin("a"), known.begin("b")
    now = sessions.IDLE_S - 1
    assert known.token(first) == "a"
    now = sessions.IDLE_S + 1
    assert known.token(first) == "a"
    assert known.token(second) is None
    assert known.token("") is known.token(None) is known.token("other") is None
    monkeypatch.setattr(sessions, "MOST", 2)
    known.begin("c")
    known.begin("d")
    assert known.token(first) is None
    assert known.tokens() == {"c", "d"}
    known.end_of("c")
    assert known.tokens() == {"d"}


def test_a_port_that_is_taken_is_passed_over():
    with listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with listen("127.0.0.1", port) as second:
            assert second.getsockname()[1] > port


def test_an_address_that_is_not_this_machines_ends_it_with_its_reason(capsys: pytest.CaptureFixture[str]):
    assert main(["page", "--host", "192.0.2.1", "--insecure"]) == 2
    assert "192.0.2.1:8080: Cannot assign requested address" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--host", "0.0.0.0"], "nothing is encrypted"),
        (["--host", "page.example"], "nothing is encrypted"),
        (["--certificate", "c.pem"], "belong together"),
        (
            ["--certificate", "none.pem", "--private-key", "none.key"],
            "(none.pem, none.key) cannot be used: No such file",
        ),
        (["--ca", "none.pem"], "none.pem"),
    ],
)
def test_a_page_that_others_could_read_along_does_not_start(
    capsys: pytest.CaptureFixture[str], flags: list[str], said: str
):
    assert main(["page", "--port", "0", *flags]) == 2
    assert said in capsys.readouterr().err


def test_a_node_does_not_open_its_page_by_oversight():
    with pytest.raises(SettingsError, match=r"page\.host = '0\.0\.0\.0'"):
        load_settings({"page": {"host": "0.0.0.0"}}, resolved=True)
    load_settings({"page": {"host": "0.0.0.0", "enabled": False}}, resolved=True)
    load_settings({"page": {"host": "0.0.0.0"}, "access": {"certificate": "c", "private_key": "k"}}, resolved=True)
