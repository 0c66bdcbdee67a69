"""A node whose versions are in a bucket: taught, swapped, cut off, killed, rolled back, backed up and restored."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from accrete_model.artifacts import open_artifacts
from accrete_model.config import ArtifactsConfig
from accrete_storage.backup import read
from benchmarks.node import Node
from benchmarks.waiting import until
from tests.end_to_end.test_backup import accrete
from tests.support.buckets import SECRET, BucketServer


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    server = BucketServer("rclone", tmp_path / "rclone")
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    server.start()
    yield server
    server.stop()


def test_a_node_lives_on_a_bucket(make_node, digits, bucket: BucketServer, tmp_path: Path) -> None:
    node: Node = make_node(settings={"artifacts.url": "s3://bucket/first"})
    with node.client() as client:
        client.wait_ready(300)
        taught = client.add_examples((label, image) for label in "01" for image in digits[label][:40]).ids
        assert client.wait_learned(taught, timeout=300) == 1

        bucket.stop()
        asked = digits["0"][40:44] + digits["2"][40:44]
        more = client.add_examples((label, image) for label in "23" for image in digits[label][:40]).ids
        until(lambda: client.status().phase == "blocked", what="that the bucket is missed")
        reason = client.status().phase_reason
        assert reason.startswith("artifacts.url = 's3://bucket/first': cannot be"), reason
        assert client.predict(asked[0]).version == 1
        bucket.start()
        assert client.wait_learned(more, timeout=300) == 2
        expected = [one.label for one in client.predict(asked)]

        # As on a machine that has never seen them, after a kill.
        node.kill("server")
        shutil.rmtree(node.data_dir / "versions")
        answers = client.predict(asked, timeout=300)
        assert ([one.label for one in answers], answers[0].version) == (expected, 2)
        client.activate(1)
        assert client.predict(asked[0]).version == 1
        client.unpin()
        assert client.predict(asked[0]).version == 2

        shutil.rmtree(node.data_dir / "versions")
        folder = tmp_path / "backup"
        done = accrete("backup", folder, "--data-dir", node.data_dir, "--config", node.config, *url("first"))
        assert done.returncode == 0, done.stderr

    done = accrete("restore", folder, "--data-dir", tmp_path / "other", *url("second"))
    assert done.returncode == 0, done.stderr
    restored = open_artifacts(ArtifactsConfig(url="s3://bucket/second"), tmp_path / "elsewhere")
    assert restored.list() == [1, 2]
    for version, digest in read(folder).versions.items():
        restored.verify(version, digest)
    for written in (node.log(), *(path.read_text("utf-8") for path in node.data_dir.rglob("*.toml"))):
        assert SECRET not in written


def url(prefix: str) -> tuple[str, str]:
    return "--set", f"artifacts.url=s3://bucket/{prefix}"
