"""A data directory that an earlier release left is served and learned on from."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from benchmarks.node import Node
from tests.support.priority import FULL_PRIORITY

EMBEDDINGS = {"model.backbone": "identity", "model.embedding": "64", "training.augmentation": "auto"}


def test_a_data_directory_of_schema_1_is_served_and_learned_on_from(digits, tmp_path: Path) -> None:
    """It was left by the first release: labels 0 to 3 learned in two steps, and of 4 ten examples pending, two of the
    twelve that were acknowledged having been deleted."""
    with tarfile.open(Path(__file__).with_name("schema-1.tar.xz")) as archive:
        # Before 3.11.4 Python had no filters, and after 3.14 it has this one by default.
        archive.extraction_filter = getattr(tarfile, "data_filter", None)
        archive.extractall(tmp_path)
    expected = json.loads((tmp_path / "data" / "expected.json").read_text())
    vectors = {label: [(one.reshape(-1) / 256).astype(np.float32) for one in scans] for label, scans in digits.items()}
    node = Node(tmp_path, settings=EMBEDDINGS, environment=FULL_PRIORITY)
    node.start()
    try:
        with node.ready() as client:
            answers = client.predict([vectors[label][50] for label in "0123"], top_k=5, timeout=300)
            assert [one.version for one in answers] == [2] * 4
            assert [one.label for one in answers] == [label for label, _ in expected]
            # The answers that were noted are from before label 4 had a prototype.
            of_learned = [sum(one.probability for one in answer.ranked if not one.provisional) for answer in answers]
            found = [answer.probability / whole for answer, whole in zip(answers, of_learned, strict=True)]
            assert found == pytest.approx([chance for _, chance in expected], abs=1e-5)
            again = client.add_examples(("4", vector) for vector in vectors["4"][:12])
            assert (again.stored, again.duplicates) == (2, 10), "those that were deleted are not known any more"
            client.trigger_step()
            # What was pending has waited long: a step with it may start before the two are there, theirs being next.
            assert client.wait_learned(again.ids, timeout=300) in (3, 4)
            assert {one.label for one in client.classes()} >= set("01234")
    finally:
        node.stop()
