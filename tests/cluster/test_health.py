"""Whether a server of a node is found alive, over whatever it lets in."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from accrete_cluster.health import Health
from accrete_node.settings import load_settings
from accrete_server.access.certificates import Certificates
from accrete_server.access.config import AccessConfig
from accrete_server.grpc_server import Health as Served
from accrete_server.grpc_server import bind
from tests.server.test_access import Authority


@pytest.mark.parametrize("lets_in", ["everybody", "encrypted", "by certificate"])
def test_a_server_is_alive_while_it_drains_and_not_once_it_is_gone(
    tmp_path: Path, lets_in: str, monkeypatch: pytest.MonkeyPatch
):
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")  # where nothing listens
    access = AccessConfig()
    if lets_in != "everybody":
        authority = Authority(tmp_path / "pki")
        certificate, key = authority.issue("server", "DNS:servers.example")
        access = AccessConfig(
            certificate=certificate,
            private_key=key,
            client_ca=authority.root if lets_in == "by certificate" else "",
        )
    settings = load_settings({"preset": "embeddings"}, resolved=True)
    server = dataclasses.replace(settings.server, host="127.0.0.1", port=0)
    settings = settings.model_copy(update={"access": access, "server": server})
    served = grpc.server(ThreadPoolExecutor(2))
    health = Served(served)
    port = bind(served, server, Certificates(access) if access.certificate else None)
    served.start()
    health.serving()
    asking = Health(settings, f"127.0.0.1:{port}")
    assert asking.alive()
    health.stopping()
    assert asking.alive(), "it drains, and must not be killed for that"
    served.stop(None).wait()
    assert not asking.alive()
    asking.close()
