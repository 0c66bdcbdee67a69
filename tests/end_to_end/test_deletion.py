"""What is deleted is gone: no byte of the images is left below the data directory."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.bucket import home_of
from benchmarks.waiting import until
from tests.support.buckets import contents


def holding(folder: Path, patterns: list[bytes]) -> set[int]:
    """Which of the images are in some file."""
    found: set[int] = set()
    for file in folder.rglob("*"):
        try:
            content = file.read_bytes() if file.is_file() else b""
        except OSError:  # removed meanwhile
            continue
        found |= {number for number, pattern in enumerate(patterns) if pattern in content}
    return found


def test_images_that_are_deleted_or_forgotten_leave_no_bytes(make_node, digits):
    node = make_node()
    # Noise cannot be compressed: its bytes lie in the store's files as they are.
    noise = np.random.default_rng(5).integers(0, 256, (60, 8, 8), dtype=np.uint8)
    patterns = [image.tobytes() for image in noise]
    with node.ready() as client:
        others = client.add_examples(("0", image) for image in digits["0"][:40]).ids
        learned = client.add_examples(("noise", image) for image in noise[:40]).ids
        client.wait_learned([*others, *learned], timeout=300)
        client.add_examples(("pending", image) for image in noise[40:])
        assert holding(node.data_dir, patterns) == set(range(60)), "the images are there, and are found"

        assert client.delete_examples(learned).deleted >= 5, "the exemplars and the hold-out"
        until(lambda: holding(node.data_dir, patterns) <= set(range(40, 60)), what="the log without what was deleted")
        client.forget_class("pending")
        until(lambda: not holding(node.data_dir, patterns), what="the log without the forgotten class")
        assert client.predict(digits["0"][50]).label
        home = home_of(node.data_dir)
        content = contents(home)
        assert bool(content) == bool(home.url), "its versions are in a bucket, if one is asked for"
        assert not [one for one in content if any(pattern in one for pattern in patterns)]
