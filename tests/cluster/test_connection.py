"""What is found out about Ray's head from how it was started, and what a head says that is not open to all."""

from __future__ import annotations

import base64
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from accrete_cluster.connection import NoRay, connected, redis_of
from benchmarks.waiting import free_port, until


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ("--session-name=mine --redis_address=10.0.0.1 --redis_port=6379", True),
        ("--session-name=mine", False),
        ("--session-name=mine --redis_address=", False),
        ("--session-name=another --redis_address=10.0.0.1", None),
    ],
)
def test_a_head_that_keeps_its_state_in_a_redis_is_told_from_one_that_does_not(
    tmp_path: Path, arguments: str, found: bool | None
):
    for pid, command in (("1", "init"), ("7", f"/ray/gcs_server {arguments}"), ("8", "")):
        (tmp_path / pid).mkdir()
        (tmp_path / pid / "cmdline").write_text(command.replace(" ", "\0") + "\0")
    (tmp_path / "gone").mkdir()
    assert redis_of("mine", tmp_path) is found


@pytest.mark.parametrize("address", ["127.0.0.1:{port}", "ray://127.0.0.1:{port}", "head"])
def test_where_no_ray_runs_it_is_told_at_once_with_what_to_type(address: str):
    pytest.importorskip("ray")
    with (
        pytest.raises(NoRay, match=r"no Ray answers at .*`ray start --head` .*RAY_REDIS_ADDRESS"),
        connected(address.format(port=free_port()), "nobody"),
    ):
        raise AssertionError("it connected")


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[str]:
    """The address of a head's process that asks for a token."""
    pytest.importorskip("ray")
    from ray._private.services import GCS_SERVER_EXECUTABLE  # it starts in a tenth of the time of `ray start --head`

    port = free_port()
    arguments = {
        "log_dir": tmp_path,
        "config_list": base64.b64encode(b"{}").decode(),
        "gcs_server_port": port,
        "metrics-agent-port": 0,
        "node-ip-address": "127.0.0.1",
        "session-name": "mine",
        "session-dir": tmp_path,
        "node-id": "a" * 56,
    }
    process = subprocess.Popen(
        [str(GCS_SERVER_EXECUTABLE), *(f"--{name}={value}" for name, value in arguments.items())],
        env=os.environ | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "a" * 32},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: _listens(port))
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.integration
def test_without_the_heads_token_it_is_told_what_to_set(guarded: str, tmp_path: Path):
    """Ray reads the token once in a process, so each takes one of its own."""
    given: list[dict[str, str]] = [
        {},
        {"RAY_AUTH_MODE": "token"},
        {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "b" * 32},
    ]
    command = [sys.executable, "-m", "accrete", "cluster", "status", "--address", guarded, "--preset", "embeddings"]
    command += ["--set", "model.embedding=8", "--data-dir", str(tmp_path / "data")]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH_")}
    asking = [
        subprocess.Popen(
            command,
            env=clean | {"HOME": str(tmp_path)} | more,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for more in given
    ]
    for process in asking:
        shown, said = process.communicate()
        assert (process.returncode, shown) == (2, ""), said
        assert said.startswith("accrete: Ray does not let this machine in (")
        assert "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH to the token" in said
        assert said.count("\n") == 1
