"""A node that is taught is backed up by the command, and another one goes on from the backup."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

from accrete import Client
from benchmarks.node import Node
from tests.support.priority import FULL_PRIORITY


def accrete(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "accrete", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_a_node_goes_on_from_a_backup_that_was_taken_while_another_was_taught(
    make_node, digits, tmp_path: Path
) -> None:
    node = make_node()
    folder = tmp_path / "backup"
    with node.ready() as client:
        report = client.add_examples((label, image) for label in "01" for image in digits[label][:40])
        assert client.wait_learned(report.ids, timeout=300) == 1
        kept = client.add_examples(("2", image) for image in digits["2"][:20]).ids
        enough = threading.Event()
        teaching = threading.Thread(target=teach, args=(node.address, digits["3"], enough))
        teaching.start()
        done = accrete("backup", folder, "--data-dir", node.data_dir, *node.home)
        enough.set()
        teaching.join()
        assert done.returncode == 0, done.stderr
        asked = digits["0"][40:44] + digits["1"][40:44]
        expected = [one.label for one in client.predict(asked)]
    again = accrete("restore", folder, "--data-dir", node.data_dir, *node.home)
    assert again.returncode == 2
    assert ("below a new prefix" if node.home else "new data directory") in again.stderr
    other = Node(tmp_path, environment=FULL_PRIORITY)
    in_vain = accrete("restore", tmp_path / "none", "--data-dir", other.data_dir, *other.home)
    assert "no backup" in in_vain.stderr
    done = accrete("restore", folder, "--data-dir", other.data_dir, *other.home)
    assert done.returncode == 0, done.stderr
    other.start()
    try:
        with other.ready() as client:
            answers = client.predict(asked, timeout=300)
            assert ([one.label for one in answers], answers[0].version) == (expected, 1)
            assert client.add_examples(("2", image) for image in digits["2"][:20]).duplicates == len(kept)
            more = client.add_examples(("2", image) for image in digits["2"][20:50]).ids
            client.trigger_step()
            assert client.wait_learned([*kept, *more], timeout=300) == 2
    finally:
        other.stop()


def teach(address: str, images: list[object], enough: threading.Event) -> None:
    with Client(address, timeout=300) as client:
        for image in images[:29]:
            client.add_examples([("3", image)])  # type: ignore[list-item]
            if enough.is_set():
                return
