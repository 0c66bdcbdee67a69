"""Who gets in: roles, tokens, certificates, and what is written down of calls."""

from __future__ import annotations

import json
import logging
import shutil
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

import accrete
from accrete_server.access import tokens
from accrete_server.access.config import AccessConfig, check_exposure
from accrete_server.access.roles import ALL, ROLES, is_audited
from accrete_server.config import ServerConfig
from accrete_server.grpc_server import make_grpc_server
from benchmarks.waiting import until

from .calls import TestCall
from .world import Running, World, example, pixels

CODES = grpc.StatusCode


def principals(folder: Path, **roles: str) -> dict[str, str]:
    """A file of principals; their tokens."""
    made = {name: tokens.new_token() for name in roles}
    for name, token in made.items():
        tokens.add(folder / "tokens", tokens.line(name, roles[name].split(","), token))
    return made


@pytest.fixture
def names(tmp_path: Path) -> dict[str, str]:
    return principals(tmp_path, app="predict", teacher="teach", boss="operate", watcher="metrics")


@pytest.fixture
def guarded(world: World, names: dict[str, str], tmp_path: Path) -> Running:
    world.publish(1)
    return world.server(access=AccessConfig(tokens=str(tmp_path / "tokens")))


def client(server: Running, token: str | None = None, **options: object) -> accrete.Client:
    return accrete.Client(server.server.address, retry=None, token=token, **options)  # type: ignore[arg-type]


def outcome(server: Running, path: str, token: str = "", timeout: float = 0.5) -> CODES:
    """The code of a call with an empty message."""
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    call = server.channel.stream_stream(path, lambda data: data, lambda data: data)
    try:
        for _ in call(iter([b""]), metadata=metadata, timeout=timeout):
            return CODES.OK
    except grpc.RpcError as error:
        return error.code()
    return CODES.OK


class Registering:
    """A gRPC server that knows which methods were registered with it."""

    def __init__(self, server: grpc.Server) -> None:
        self.paths: set[str] = set()
        self._server = server

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        self.paths |= {f"/{service}/{method}" for method in handlers}
        self._server.add_registered_method_handlers(service, handlers)  # type: ignore[attr-defined]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._server, name)


def test_the_table_has_everything_that_can_be_called_and_nothing_else(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Registering] = []

    def make(*given: Any) -> Registering:
        made.append(Registering(make_grpc_server(*given)))
        return made[-1]

    monkeypatch.setattr("accrete_server.app.make_grpc_server", make)
    world.server()
    newer = (
        () if hasattr(health_pb2, "HealthListRequest") else ("/grpc.health.v1.Health/List",)
    )  # the oldest release has none
    assert made[0].paths == {path for path in ROLES if path not in ("/metrics", *newer)}


def test_callers_are_told_who_they_are_and_what_they_may(guarded: Running, names: dict[str, str], world: World) -> None:
    with client(guarded, names["boss"]) as boss, client(world.server()) as anyone:
        told, open_to_all = boss.status(), anyone.status()
    assert (told.principal, told.roles) == ("boss", ("operate",))
    assert (open_to_all.principal, sorted(open_to_all.roles)) == ("", sorted(ALL))


def test_a_server_that_is_full_tells_so_only_to_those_it_lets_in(
    world: World, names: dict[str, str], tmp_path: Path
) -> None:
    path = "/accrete.v1.Teaching/AddExamples"
    full = world.server(access=AccessConfig(tokens=str(tmp_path / "tokens")), teaching_concurrency=1, queue=0)
    full.server.teach_admission.enter(TestCall())
    assert outcome(full, path, names["teacher"]) is CODES.RESOURCE_EXHAUSTED
    assert outcome(full, path, names["app"]) is CODES.PERMISSION_DENIED
    assert outcome(full, path) is CODES.UNAUTHENTICATED


def test_each_call_needs_one_of_its_roles(guarded: Running, names: dict[str, str]) -> None:
    role_of = {"app": "predict", "teacher": "teach", "boss": "operate", "watcher": "metrics"}
    for path, needed in ROLES.items():
        if needed is None or path == "/metrics":
            continue
        assert outcome(guarded, path, timeout=300) is CODES.UNAUTHENTICATED, path
        assert outcome(guarded, path, "wrong", timeout=300) is CODES.UNAUTHENTICATED, path
        for name, token in names.items():
            refused = role_of[name] not in needed
            found = outcome(guarded, path, token, timeout=300 if refused else 0.5)  # some that are let in never end
            assert (found is CODES.PERMISSION_DENIED) == refused, (path, name)


def test_what_is_not_in_the_table_may_not_be_called_by_anybody(
    guarded: Running, names: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = "/accrete.v1.Prediction/Predict"
    assert outcome(guarded, path, names["app"]) is CODES.INVALID_ARGUMENT
    monkeypatch.delitem(ROLES, path)
    assert outcome(guarded, path, names["app"]) is CODES.PERMISSION_DENIED


def test_health_is_answered_to_everybody(guarded: Running) -> None:
    check = health_pb2_grpc.HealthStub(guarded.channel).Check
    assert check(health_pb2.HealthCheckRequest(), timeout=5).status == health_pb2.HealthCheckResponse.SERVING


def test_a_caller_with_a_role_does_what_it_allows(guarded: Running, names: dict[str, str]) -> None:
    with client(guarded, names["app"]) as app, client(guarded, names["teacher"]) as teacher:
        assert app.predict(pixels()).label
        assert teacher.add_examples([("cat", pixels(1))]).stored == 1
        with pytest.raises(accrete.PermissionDenied):
            app.add_examples([("cat", pixels(2))])
        with pytest.raises(accrete.PermissionDenied):
            teacher.predict(pixels())
    with client(guarded) as nobody, pytest.raises(accrete.Unauthenticated) as refused:
        nobody.predict(pixels())
    assert not isinstance(refused.value, accrete.PermissionDenied)


def test_the_token_comes_from_the_environment_too(
    guarded: Running, names: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCRETE_TOKEN", names["app"])
    with client(guarded) as app:
        assert app.predict(pixels()).label


def test_a_token_that_is_added_or_taken_away_counts_without_a_restart(
    guarded: Running, names: dict[str, str], tmp_path: Path
) -> None:
    later = principals(tmp_path, later="predict")["later"]
    path = "/accrete.v1.Prediction/Predict"
    until(lambda: outcome(guarded, path, later) is CODES.INVALID_ARGUMENT)
    (tmp_path / "tokens").write_text("a line that makes no sense at all\n")
    assert outcome(guarded, path, later) is CODES.INVALID_ARGUMENT
    (tmp_path / "tokens").write_text(tokens.line("app", ["predict"], names["app"]))
    until(lambda: outcome(guarded, path, later) is CODES.UNAUTHENTICATED)
    assert outcome(guarded, path, names["app"]) is CODES.INVALID_ARGUMENT


@pytest.mark.parametrize(
    "content", ["app predict", "app fly " + "0" * 64, "app predict xyz", "a teach certificate\na predict certificate"]
)
def test_a_file_of_principals_that_makes_no_sense_is_refused_at_the_start(content: str, tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text(content)
    with pytest.raises(ValueError, match=r"access\.tokens = .*: line \d"):
        tokens.TokenFile(tmp_path / "tokens")


def test_the_file_keeps_hashes_and_is_its_owners_alone(tmp_path: Path) -> None:
    token = principals(tmp_path, app="predict")["app"]
    file = tmp_path / "tokens"
    assert token not in file.read_text()
    assert file.stat().st_mode & 0o077 == 0
    with pytest.raises(ValueError, match="without spaces"):
        tokens.line("shop app", ["predict"], token)
    with pytest.raises(ValueError, match="no such role"):
        tokens.add(file, tokens.line("app", ["fly"], token))
    assert len(file.read_text().splitlines()) == 1


def test_teaching_and_operating_are_written_down_and_tokens_and_images_are_not(
    guarded: Running, names: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        with client(guarded, names["teacher"]) as teacher:
            teacher.add_examples([("cat", pixels(1)), ("dog", pixels(2))])
            list(teacher.stream_examples([("owl", pixels(3))]))
        with client(guarded, names["app"]) as app:
            app.predict(pixels())
            with pytest.raises(accrete.PermissionDenied):
                app.forget_class("cat")
        with client(guarded, names["boss"]) as boss:
            boss.pause()
        until(lambda: len([one for one in caplog.records if one.name == "accrete.audit"]) >= 5)
    audited = [vars(one) for one in caplog.records if one.name == "accrete.audit"]
    by_method = {(one["method"], one["code"]): one for one in audited}
    assert by_method["AddExamples", "OK"]["principal"] == "teacher"
    assert by_method["AddExamples", "OK"]["labels"] == ["cat", "dog"]
    assert by_method["StreamExamples", "RECEIVED"]["labels"] == ["owl"]
    assert by_method["ForgetClass", "PERMISSION_DENIED"]["label"] == "cat"
    assert by_method["ForgetClass", "PERMISSION_DENIED"]["principal"] == "app"
    assert by_method["PauseLearning", "OK"]["principal"] == "boss"
    assert not any(one["method"] == "Predict" for one in audited)
    everything = json.dumps([vars(one) for one in caplog.records], default=str)
    assert not any(token in everything for token in names.values())
    assert pixels(1).tobytes() not in everything.encode("latin-1", "ignore")


def test_every_call_that_changes_something_is_audited() -> None:
    assert is_audited("/accrete.v1.Operation/ForgetClass")
    assert is_audited("/accrete.v1.Teaching/AddExamples")
    assert is_audited("/accrete.v1.Inbox/LabelInbox")
    assert not is_audited("/accrete.v1.Inbox/ListInbox")
    assert not is_audited("/accrete.v1.Curation/ListExamples")
    assert not is_audited("/accrete.v1.Prediction/Predict")
    assert not is_audited("/accrete.v1.Operation/GetStatus")


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "10.0.0.5", "example.org"])
@pytest.mark.parametrize("field", ["host", "metrics_host"])
def test_a_server_is_not_opened_to_a_network_by_oversight(host: str, field: str) -> None:
    config = replace(ServerConfig(), **{field: host})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=rf"server\.{field} = .*access\.certificate.*--insecure"):
        check_exposure(config, AccessConfig())
    check_exposure(config, AccessConfig(insecure=True))
    check_exposure(config, AccessConfig(certificate="c", private_key="k"))
    for near in ("127.0.0.1", "[::1]", "localhost", "127.8.8.8"):
        check_exposure(replace(ServerConfig(), **{field: near}), AccessConfig())  # type: ignore[arg-type]


def test_reflection_can_be_switched_off(world: World) -> None:
    def listed(server: Running) -> bool:
        ask = reflection_pb2_grpc.ServerReflectionStub(server.channel).ServerReflectionInfo
        try:
            return bool(list(ask(iter([reflection_pb2.ServerReflectionRequest(list_services="")]), timeout=5)))
        except grpc.RpcError as error:
            return error.code() is not CODES.UNIMPLEMENTED

    assert listed(world.server())
    assert not listed(world.server(access=AccessConfig(reflection=False)))


def test_the_metrics_page_asks_for_a_token_with_its_role(guarded: Running, names: dict[str, str]) -> None:
    assert scrape(guarded, names["watcher"]) == 200
    assert scrape(guarded, names["app"]) == 401
    assert scrape(guarded, "") == 401


def scrape(server: Running, token: str, *, scheme: str = "http", tls: ssl.SSLContext | None = None) -> int:
    request = urllib.request.Request(f"{scheme}://localhost:{server.server.metrics_port}/metrics")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=300, context=tls) as answer:
            return answer.status if b"accrete_" in answer.read() else 0
    except urllib.error.HTTPError as error:
        with error:
            return error.code


class Authority:
    """Makes certificates with openssl."""

    def __init__(self, folder: Path) -> None:
        if shutil.which("openssl") is None:
            pytest.skip("openssl is not installed")
        self.folder = folder
        folder.mkdir()
        self._run(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=authority "
            "-keyout ca.key -out ca.pem"
        )

    def issue(self, name: str, names: str = "DNS:localhost") -> tuple[str, str]:
        """Certificate and key."""
        self._run(
            f"req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN={name} "
            f"-addext subjectAltName={names} -keyout {name}.key -out {name}.csr"
        )
        self._run(
            f"x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -copy_extensions copy "
            f"-out {name}.pem"
        )
        return str(self.folder / f"{name}.pem"), str(self.folder / f"{name}.key")

    @property
    def root(self) -> str:
        return str(self.folder / "ca.pem")

    def _run(self, command: str) -> None:
        subprocess.run(["openssl", *command.split()], cwd=self.folder, check=True, capture_output=True, timeout=300)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "pki")


def encrypted(server: Running, tls: accrete.TlsConfig, token: str | None = None) -> accrete.Client:
    return accrete.Client(f"localhost:{server.server.port}", tls=tls, retry=None, token=token, timeout=300)


def test_an_encrypted_server_reads_a_new_certificate_without_a_restart(
    world: World, authority: Authority, names: dict[str, str], tmp_path: Path
) -> None:
    world.publish(1)
    certificate, key = authority.issue("server")
    access = AccessConfig(certificate=certificate, private_key=key, tokens=str(tmp_path / "tokens"))
    server = world.server(access=access)
    with encrypted(server, accrete.TlsConfig(root_certificates=authority.root), names["app"]) as app:
        assert app.predict(pixels()).label
    context = ssl.create_default_context(cafile=authority.root)
    assert scrape(server, names["watcher"], scheme="https", tls=context) == 200
    with grpc.insecure_channel(server.server.address) as plain, pytest.raises(grpc.RpcError):
        health_pb2_grpc.HealthStub(plain).Check(health_pb2.HealthCheckRequest(), timeout=2)
    other = Authority(tmp_path / "other")
    new_certificate, new_key = other.issue("server")
    shutil.copy(new_key, key)
    shutil.copy(new_certificate, certificate)
    with encrypted(server, accrete.TlsConfig(root_certificates=other.root), names["app"]) as app:
        assert app.predict(pixels()).label
    with (
        encrypted(server, accrete.TlsConfig(root_certificates=authority.root), names["app"]) as app,
        pytest.raises(accrete.Unavailable),
    ):
        app.predict(pixels())
    assert scrape(server, names["watcher"], scheme="https", tls=ssl.create_default_context(cafile=other.root)) == 200


def test_a_certificate_says_who_calls(world: World, authority: Authority, tmp_path: Path) -> None:
    world.publish(1)
    certificate, key = authority.issue("server")
    tokens.add(tmp_path / "tokens", tokens.line("app", ["predict"], None))
    access = AccessConfig(
        certificate=certificate, private_key=key, client_ca=authority.root, tokens=str(tmp_path / "tokens")
    )
    server = world.server(access=access)

    def of(name: str) -> accrete.TlsConfig:
        own, own_key = authority.issue(name)
        return accrete.TlsConfig(root_certificates=authority.root, certificate=own, private_key=own_key)

    with encrypted(server, of("app")) as app:
        assert app.predict(pixels()).label
        with pytest.raises(accrete.PermissionDenied, match="app may not"):
            app.add_examples([("cat", pixels(1))])
    with encrypted(server, of("stranger")) as stranger, pytest.raises(accrete.Unauthenticated):
        stranger.predict(pixels())
    nobodys = accrete.TlsConfig(root_certificates=authority.root)
    with encrypted(server, nobodys) as nobody, pytest.raises(accrete.Unavailable):
        nobody.predict(pixels())


@pytest.mark.parametrize("broken", ["certificate", "private_key", "client_ca"])
def test_files_that_cannot_be_used_are_named_at_the_start(broken: str, world: World, authority: Authority) -> None:
    certificate, key = authority.issue("server")
    files = {"certificate": certificate, "private_key": key, "client_ca": authority.root, broken: "/nowhere/x.pem"}
    with pytest.raises(ValueError, match=r"/nowhere/x\.pem"):
        world.server(access=replace(AccessConfig(), **files))  # type: ignore[arg-type]


def test_all_roles_are_of_use() -> None:
    assert frozenset().union(*(needed for needed in ROLES.values() if needed)) == ALL


def test_an_example_on_the_wire_is_told_by_label_alone() -> None:
    from accrete.v1 import teaching_pb2
    from accrete_server.access.audit import facts

    request = teaching_pb2.AddExamplesRequest(examples=[example("cat", 1), example("cat", 2)])
    assert facts(request) == {"examples": 2, "labels": ["cat"], "label_count": 1}
