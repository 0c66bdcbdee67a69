"""What is found out about Ray's head from how it was started."""

from __future__ import annotations

from pathlib import Path

import pytest

from accrete_cluster.connection import redis_of


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
