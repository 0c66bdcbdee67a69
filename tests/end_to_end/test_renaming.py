"""A node whose classes are renamed and merged while it learns, and that is started again."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.node import Node
from benchmarks.waiting import until

EMBEDDINGS = {
    "method.name": "analytic",
    "model.backbone": "identity",
    "model.embedding": "64",
    "trigger.min_examples": "1",
    "trigger.first_classes": "1",
    "trigger.classes_per_step": "1",
    "trigger.refresh_examples": "1",
}


def test_a_node_goes_on_with_the_labels_that_it_was_given(
    make_node: Callable[..., Node], digits: dict[str, list[np.ndarray]]
) -> None:
    vectors = {label: [scan.reshape(64).astype(np.float32) / 255 for scan in digits[label]] for label in "012"}
    node = make_node(settings=EMBEDDINGS)
    with node.ready() as client:
        taught = [("0", one) for one in vectors["0"][:9]] + [("one", one) for one in vectors["1"][:9]]
        ids = client.add_examples(taught).ids
        client.wait_learned(ids, timeout=300)
        assert client.rename_class("0", "zero") == 9
        assert client.predict(vectors["0"][50]).label == "zero"
        more = client.add_examples(
            [("1", one) for one in vectors["1"][20:29]] + [("2", one) for one in vectors["2"][:9]]
        )
        more_learned = client.wait_learned(more.ids, timeout=300)
        assert client.merge_classes("one", "1") == 9
        assert client.predict(vectors["1"][50]).label == "1", "by either row"
        until(lambda: client.status().version == more_learned + 1, "the version after the merge")
        before = client.predict(vectors["1"][50])
        assert before.label == "1"
        again = client.add_examples(taught)
        assert (again.stored, again.duplicates, again.ids) == (0, 18, ids)
        assert client.add_examples([("1", one) for one in vectors["1"][:9]]).duplicates == 9
        assert client.wait_learned(ids, timeout=300) == before.version
    node.stop()
    node.start()
    with node.ready() as client:
        assert client.predict(vectors["1"][50]).ranked == before.ranked
        assert [(one.label, one.exemplars) for one in client.classes()] == [("zero", 5), ("1", 5), ("2", 5)]
        assert client.wait_learned(ids, timeout=300) == before.version
