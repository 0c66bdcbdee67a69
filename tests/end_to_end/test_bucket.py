"""A node whose versions are in a bucket: taught, swapped, cut off, killed, rolled back, backed up and restored."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from accrete_model.artifacts import open_artifacts
from accrete_model.config import ArtifactsConfig
from accrete_storage.backup import read
from benchmarks.node import Node
from benchmarks.waiting import until
from tests.end_to_end.test_backup import accrete
from tests.support.buckets import SECRET, BucketServer
from tests.support.priority import FULL_PRIORITY

SETTINGS = """
preset = "embeddings"
[model]
embedding = 8
[server]
port = {port}
metrics_port = 0
[learner]
metrics_port = 0
[page]
enabled = false
[log]
format = "text"
"""
"""Of a node that learns without PyTorch, within a second."""


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BucketServer]:
    server = BucketServer("rclone", tmp_path / "rclone")
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def node(bucket: BucketServer, tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path, settings={"artifacts.url": "s3://bucket/first"}, environment=FULL_PRIORITY)
    node.config.write_text(SETTINGS.format(port=node.port))
    node.start()
    yield node
    node.stop()
    print(node.log()[-6000:])


def taught(*labels: int) -> list[tuple[str, np.ndarray]]:
    generator = np.random.default_rng(labels)
    noise = generator.normal(0, 0.05, (len(labels), 12, 8))
    return [
        (str(label), (np.eye(8)[label] + row).astype(np.float32))
        for label, rows in zip(labels, noise, strict=True)
        for row in rows
    ]


def test_a_node_lives_on_a_bucket(node: Node, bucket: BucketServer, tmp_path: Path):
    asked = [vector for _, vector in taught(0, 1, 2, 3)]
    with node.ready() as client:
        first = client.wait_learned(client.add_examples(taught(0, 1)).ids, timeout=300)

        bucket.stop()
        more = client.add_examples(taught(2, 3)).ids
        until(lambda: client.status().phase == "blocked", what="that the bucket is missed")
        reason = client.status().phase_reason
        assert reason.startswith("artifacts.url = 's3://bucket/first': cannot be"), reason
        assert client.predict(asked[0]).version == first
        bucket.start()
        newest = client.wait_learned(more, timeout=300)
        expected = [one.label for one in client.predict(asked)]
        assert set(expected) == {"0", "1", "2", "3"}

        # As on a machine that has never seen them, after a kill.
        for process in ("learner", "server"):
            node.kill(process)
        for cached in ("versions", "backbones"):
            shutil.rmtree(node.data_dir / cached)
        answers = client.predict(asked, timeout=300)
        assert ([one.label for one in answers], answers[0].version) == (expected, newest)
        client.activate(first)
        assert client.predict(asked[0]).version == first
        client.unpin()
        assert client.predict(asked[0]).version == newest
        last = client.wait_learned(client.add_examples(taught(4)).ids, timeout=300)
        assert last is not None
        assert last > newest

        shutil.rmtree(node.data_dir / "versions")
        folder = tmp_path / "backup"
        done = accrete("backup", folder, "--data-dir", node.data_dir, "--config", node.config, *url("first"))
        assert done.returncode == 0, done.stderr

    done = accrete("restore", folder, "--data-dir", tmp_path / "other", *url("second"))
    assert done.returncode == 0, done.stderr
    restored = open_artifacts(ArtifactsConfig(url="s3://bucket/second"), tmp_path / "elsewhere")
    assert {first, newest, last} <= set(restored.list())
    for version, digest in read(folder).versions.items():
        restored.verify(version, digest)
    for written in (node.log(), *(path.read_text("utf-8") for path in node.data_dir.rglob("*.toml"))):
        assert SECRET not in written


def url(prefix: str) -> tuple[str, str]:
    return "--set", f"artifacts.url=s3://bucket/{prefix}"
