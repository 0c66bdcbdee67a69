"""What every call has: a deadline, retries, and an error of the right kind."""

from __future__ import annotations

import random
import shutil
import subprocess
import threading

import grpc
import pytest

import accrete
from accrete import _errors
from accrete._config import ADDRESS_VARIABLE, endpoint
from accrete._transport.methods import Method
from tests.clients.conftest import FAST
from tests.clients.memory_server import MemoryServer

ERRORS = sorted(_errors.KINDS, key=lambda code: code.value[0])


def test_every_status_code_has_an_error():
    assert set(_errors.KINDS) == set(grpc.StatusCode) - {grpc.StatusCode.OK}


@pytest.mark.parametrize("code", ERRORS, ids=lambda code: code.name)
def test_a_status_becomes_its_error(server, state, code):
    state.fail("GetStatus", code, details="why it failed", retry_after_ms=1500)
    with accrete.Client(server.address, retry=None) as client, pytest.raises(accrete.AccreteError) as caught:
        client.status()
    assert type(caught.value) is _errors.KINDS[code]
    assert caught.value.code is code
    assert caught.value.details == "why it failed"
    assert caught.value.retry_after == 1.5
    assert str(caught.value) == "why it failed"


def test_a_deadline_that_passed_is_a_timeout_error():
    assert issubclass(accrete.DeadlineExceeded, TimeoutError)


@pytest.mark.parametrize("failures", [1, 3])
def test_a_server_that_does_not_answer_is_asked_again(client, state, failures):
    state.fail("GetStatus", grpc.StatusCode.UNAVAILABLE, times=failures)
    assert client.status().version == 1
    assert len(state.requests("GetStatus")) == failures + 1


@pytest.mark.parametrize("code", [code for code in ERRORS if code is not grpc.StatusCode.UNAVAILABLE], ids=str)
def test_nothing_else_is_asked_again_unless_the_server_says_when(client, state, code):
    state.fail("GetStatus", code, times=2)
    with pytest.raises(accrete.AccreteError):
        client.status()
    assert len(state.requests("GetStatus")) == 1


def test_a_refusal_for_now_is_asked_again_when_the_server_says(client, state):
    state.fail("GetStatus", grpc.StatusCode.RESOURCE_EXHAUSTED, retry_after_ms=10)
    assert client.status().version == 1


def test_without_retries_every_call_is_made_once(server, state):
    state.fail("GetStatus", grpc.StatusCode.UNAVAILABLE)
    with accrete.Client(server.address, retry=None) as client, pytest.raises(accrete.Unavailable) as caught:
        client.status()
    assert caught.value.attempts == 1


def test_attempts_can_be_bounded(server, state):
    state.fail("GetStatus", grpc.StatusCode.UNAVAILABLE, times=9)
    retry = accrete.Retry(initial_s=0.001, attempts=3)
    with accrete.Client(server.address, retry=retry) as client, pytest.raises(accrete.Unavailable) as caught:
        client.status()
    assert caught.value.attempts == 3
    assert str(caught.value) == "as told (after 3 attempts)"


def test_pauses_grow_with_jitter_up_to_a_limit():
    retry, error, generator = accrete.Retry(initial_s=1, max_s=10), accrete.Unavailable(), random.Random(0)
    for attempt, longest in ((1, 1), (2, 2), (3, 4), (4, 8), (5, 10), (10_000, 10)):
        pauses = [retry.pause_s(error, attempt, generator) or 0.0 for _ in range(100)]
        assert longest / 2 <= min(pauses) < max(pauses) <= longest


def test_a_server_that_comes_up_late_is_found(server, state):
    server.stop()
    with accrete.Client(server.address, timeout=20, retry=FAST) as client:
        threading.Timer(0.3, server.start).start()
        assert client.status().version == 1


def test_a_server_that_hangs_costs_the_timeout_and_no_more(server, state):
    state.hangs.add("GetStatus")
    with accrete.Client(server.address, timeout=20) as client, pytest.raises(accrete.DeadlineExceeded):
        client.status(timeout=0.2)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf")])
def test_a_timeout_must_be_a_positive_number(client, timeout):
    with pytest.raises(accrete.InvalidInput, match="timeout"):
        client.status(timeout=timeout)
    with pytest.raises(accrete.InvalidInput, match="timeout"):
        accrete.Client(timeout=timeout)


def test_a_closed_client_says_so(client):
    client.close()
    client.close()
    with pytest.raises(accrete.Cancelled, match="closed"):
        client.status()


def test_closing_ends_the_calls_of_other_threads(server, state):
    state.hangs.add("GetStatus")
    client = accrete.Client(server.address, timeout=20)
    caught = []

    def call():
        try:
            client.status()
        except accrete.AccreteError as error:
            caught.append(type(error))

    thread = threading.Thread(target=call)
    thread.start()
    while not state.requests("GetStatus"):
        thread.join(0.01)
    client.close()
    thread.join(10)
    assert caught == [accrete.Cancelled]


def test_a_client_is_shared_by_threads(client, image):
    versions = []
    threads = [threading.Thread(target=lambda: versions.append(client.predict(image).version)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert versions == [1] * 8


def test_a_method_that_the_server_lacks_names_an_incompatible_server(client):
    from accrete._transport.sync_transport import run

    unknown: Method[bytes, bytes] = Method("/accrete.v9.Future/Call", bytes, bytes)
    with pytest.raises(accrete.IncompatibleServer):
        run(client._caller.call(unknown, b""))


def test_the_methods_are_those_of_the_contract():
    from accrete._transport import methods as _methods
    from accrete.v1 import curation_pb2, inbox_pb2, operation_pb2, prediction_pb2, teaching_pb2

    files = (prediction_pb2, teaching_pb2, operation_pb2, curation_pb2, inbox_pb2)
    services = [service for file in files for service in file.DESCRIPTOR.services_by_name.values()]
    contract = {f"/{service.full_name}/{method.name}" for service in services for method in service.methods}
    ours = {value.path for value in vars(_methods).values() if isinstance(value, Method)}
    assert ours == contract | {"/grpc.health.v1.Health/Check"}


def test_the_address_is_the_given_one_then_the_environments_then_the_default():
    assert endpoint("a:1", False, None, {ADDRESS_VARIABLE: "b:2"}).target == "a:1"
    assert endpoint(None, False, None, {ADDRESS_VARIABLE: "b:2"}).target == "b:2"
    assert endpoint(None, False, None, {}).target == "127.0.0.1:50051"


@pytest.mark.parametrize(
    ("address", "target"),
    [
        ("10.0.0.1:1, 10.0.0.2:2", "ipv4:10.0.0.1:1,10.0.0.2:2"),
        ("[::1]:1,[::2]:2", "ipv6:[::1]:1,[::2]:2"),
        ("unix:/run/accrete.sock", "unix:/run/accrete.sock"),
        ("dns:///accrete.example:50051", "dns:///accrete.example:50051"),
    ],
)
def test_addresses_of_all_kinds_are_understood(address, target):
    assert endpoint(address, False).target == target


@pytest.mark.parametrize(
    "address",
    [
        "host",
        ":1",
        "host:",
        "host:port",
        "host:0",
        "host:65536",
        "unix:",
        "a:1,b:2",
        "10.0.0.1:1,[::1]:1",
        "http://a:1",
    ],
)
def test_an_address_that_makes_no_sense_is_named(address):
    with pytest.raises(accrete.InvalidInput, match="address") as caught:
        accrete.Client(address)
    assert address in str(caught.value)


def test_calls_go_to_whichever_of_several_servers_is_up(server, free_address):
    with accrete.Client(f"{free_address},{server.address}", timeout=20, retry=FAST) as client:
        assert [client.status().version for _ in range(4)] == [1] * 4


def test_a_certificate_file_that_is_missing_is_named(tmp_path):
    with pytest.raises(accrete.InvalidInput, match="ca.pem"):
        accrete.Client(tls=accrete.TlsConfig(root_certificates=tmp_path / "ca.pem"))


def test_an_encrypted_connection_checks_the_servers_certificate(tmp_path, image):
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    files = {"-keyout": tmp_path / "key.pem", "-out": tmp_path / "cert.pem"}
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    )
    subprocess.run([*command.split(), *(str(part) for pair in files.items() for part in pair)], check=True, timeout=300)
    server = MemoryServer(tls=(files["-keyout"].read_bytes(), files["-out"].read_bytes()))
    server.start()
    try:
        tls = accrete.TlsConfig(root_certificates=files["-out"])
        with accrete.Client(f"localhost:{server.port}", timeout=20, tls=tls) as client:
            assert client.predict(image).label == "cat"
        with (
            accrete.Client(f"localhost:{server.port}", tls=True, retry=None) as client,
            pytest.raises(accrete.Unavailable),
        ):
            client.predict(image)
    finally:
        server.stop()


def test_a_token_goes_to_other_machines_encrypted_alone(tmp_path):
    for address in ("10.0.0.5:50051", "dns:///example.org:50051", "127.0.0.1:1,10.0.0.5:1"):
        with pytest.raises(accrete.InvalidInput, match="encrypted") as refused:
            accrete.Client(address, token="t0ken")
        assert "t0ken" not in str(refused.value)
        endpoint(address, False, None, {})
    assert endpoint("127.0.0.1:50051", False, "t0ken").metadata == (("authorization", "Bearer t0ken"),)
    assert endpoint("10.0.0.5:50051", True, "t0ken").metadata
    assert "t0ken" not in repr(endpoint("127.0.0.1:50051", False, "t0ken"))
    with pytest.raises(accrete.InvalidInput, match="token"):
        endpoint("127.0.0.1:50051", False, "two words")


def test_an_error_survives_pickling():
    import pickle

    error = pickle.loads(pickle.dumps(accrete.LimitExceeded("full", retry_after=2.0, attempts=3)))
    assert (type(error), error.details, error.retry_after) == (accrete.LimitExceeded, "full", 2.0)
