"""What is said of an address where no server answers, and how soon: attempts are counted, not seconds."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import grpc
import pytest

import accrete
from accrete._config import endpoint
from accrete._transport.diagnosis import diagnose
from tests.clients.conftest import FAST
from tests.clients.memory_server import MemoryServer

PATIENT = 600.0
"""Seconds that no test could wait for: what raises earlier does so because it knows."""


@contextlib.contextmanager
def saying(answer: bytes) -> Iterator[str]:
    """Something that gives the same answer to whatever is said to it, at the address that is yielded."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, contextlib.suppress(OSError):
                    if connection.recv(4096):
                        connection.sendall(answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A key and a certificate for localhost."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("tls")
    key, found = folder / "key.pem", folder / "cert.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    command += f" -addext subjectAltName=DNS:localhost -keyout {key} -out {found}"
    subprocess.run(command.split(), check=True, timeout=300, capture_output=True)
    return key, found


@pytest.fixture
def encrypted(certificate: tuple[Path, Path]) -> Iterator[MemoryServer]:
    key, found = certificate
    server = MemoryServer(tls=(key.read_bytes(), found.read_bytes()))
    server.start()
    yield server
    server.stop()


def refused(address: str, **options: object) -> str:
    """What the first call of both clients says, which must be the same."""

    async def asynchronously() -> str:
        async with accrete.AsyncClient(address, timeout=PATIENT, **options) as client:  # type: ignore[arg-type]
            with pytest.raises(accrete.Unavailable) as caught:
                await client.status()
            return caught.value.details

    with (
        accrete.Client(address, timeout=PATIENT, **options) as client,  # type: ignore[arg-type]
        pytest.raises(accrete.Unavailable) as caught,
    ):
        client.status()
    assert asyncio.run(asynchronously()) == caught.value.details
    return caught.value.details


def test_an_address_at_which_nothing_listens_is_told_without_waiting_for_the_timeout(free_address, tmp_path):
    assert refused(free_address) == f"nothing listens at {free_address}; start it with accrete up"
    missing = f"unix:{tmp_path}/s"
    assert refused(missing) == f"nothing listens at {missing}: there is no such socket"
    assert refused(f"{free_address},127.0.0.1:1").startswith("nothing listens at ")


def test_predicting_teaching_and_watching_are_told_as_soon(free_address, image):
    with accrete.Client(free_address, timeout=PATIENT, retry=accrete.Retry(first_s=0)) as client:
        for call in (
            lambda: client.predict(image),
            lambda: client.add_examples([("cat", image)]),
            lambda: next(iter(client.stream_examples([("cat", image)]))),
            lambda: next(iter(client.watch())),
        ):
            with pytest.raises(accrete.Unavailable, match="nothing listens at"):
                call()


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "is a web server (HTTP)"),
        (b"-ERR unknown command 'PRI'\r\n", "speaks Redis's protocol"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "is an SSH server"),
        (b"J\0\0\0\n8.0.36\0", "does not speak gRPC"),
        (b"", "hangs up on gRPC"),
    ],
)
def test_something_else_that_answers_is_told_at_the_first_attempt(answer, what):
    with saying(answer) as address:
        assert refused(address) == f"something else answers on this port: {address} {what}"
        with accrete.Client(address, timeout=PATIENT) as client, pytest.raises(accrete.Unavailable) as caught:
            client.wait_ready()  # waits for a server to start, not for another to go away
        assert caught.value.attempts == 1


def test_something_that_says_nothing_is_given_the_time_and_then_told():
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,  # takes connections, and never looks at them
        accrete.Client(f"127.0.0.1:{listener.getsockname()[1]}", timeout=0.5) as client,
        pytest.raises(accrete.DeadlineExceeded, match="something listens at .* and says nothing"),
    ):
        client.status()


def test_something_that_says_nothing_is_told_after_one_attempt_and_no_timeout_is_waited_for():
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        accrete.Client(f"127.0.0.1:{listener.getsockname()[1]}", timeout=PATIENT) as client,
        pytest.raises(accrete.Unavailable, match="something listens at .* and says nothing") as caught,
    ):
        client.status()
    assert caught.value.attempts == 1


def test_a_name_that_nobody_knows_is_told():
    assert "nosuch.invalid:50051: the host's name is not known" in refused("nosuch.invalid:50051")


def test_a_server_that_encrypts_and_a_client_that_does_not_are_told_apart(encrypted):
    assert "asks for an encrypted connection: use --tls" in refused(encrypted.address)


def test_a_client_that_encrypts_and_a_server_that_does_not_are_told_apart(server):
    assert "does not encrypt: leave --tls" in refused(f"localhost:{server.port}", tls=True)
    with saying(b"HTTP/1.1 400 Bad Request\r\n\r\n") as address:
        assert "is a web server" in refused(address, tls=True)


def test_a_certificate_that_is_not_accepted_is_told_with_the_reason(encrypted, certificate):
    tls = accrete.TlsConfig(root_certificates=certificate[1])
    assert "the certificate of" in refused(f"localhost:{encrypted.port}", tls=True)
    assert "not valid for '127.0.0.1'" in refused(encrypted.address, tls=tls)
    with accrete.Client(f"localhost:{encrypted.port}", tls=tls) as client:
        assert client.status().version == 1
    assert diagnose(endpoint(f"localhost:{encrypted.port}", tls)) is None


def test_a_server_that_has_answered_is_waited_for(server):
    with accrete.Client(server.address, timeout=PATIENT, retry=accrete.Retry(initial_s=0.01, first_s=0)) as client:
        assert client.status().version == 1
        server.stop()
        threading.Timer(0.3, server.start).start()
        assert client.status().version == 1
        server.stop()
        with pytest.raises(accrete.Unavailable, match="nothing listens at"):  # what it was that lasted
            client.status(timeout=0.3)


def test_waiting_until_a_server_is_ready_waits_for_its_start(server):
    server.stop()
    with accrete.Client(server.address, timeout=PATIENT, retry=None) as client:
        threading.Timer(0.3, server.start).start()
        client.wait_ready()


def test_a_sound_server_that_says_unavailable_is_not_taken_for_something_else(server, state):
    state.fail("GetStatus", grpc.StatusCode.UNAVAILABLE, details="the store is away", times=3)
    with accrete.Client(server.address, timeout=20, retry=FAST) as client:
        assert client.status().version == 1


def test_another_grpc_server_is_told():
    other = grpc.server(futures.ThreadPoolExecutor(1))
    port = other.add_insecure_port("127.0.0.1:0")
    other.start()
    try:
        told = "something else answers on this port"
        with accrete.Client(f"127.0.0.1:{port}") as client, pytest.raises(accrete.IncompatibleServer, match=told):
            client.status()
    finally:
        other.stop(0).wait()


def test_behind_a_proxy_nothing_is_guessed():
    remote = endpoint("nosuch.invalid:50051", False)
    assert diagnose(remote, {"https_proxy": "http://proxy:3128"}) is None
    assert diagnose(remote, {}) is not None
