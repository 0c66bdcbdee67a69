"""What is found out about Ray's head from how it was started."""

from __future__ import annotations

from pathlib import Path

import pytest

from accrete_cluster.connection import NoRay, connected, redis_of
from benchmarks.waiting import free_port


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
