"""A node whose answers come later than they should: the trainer yields, and what is taught is learned all the same."""

from __future__ import annotations

import json
import threading
import urllib.request

from benchmarks.node import Node, side_by_side
from benchmarks.waiting import until


def test_a_step_yields_to_late_answers_and_ends_all_the_same(make_node, digits):
    node = make_node(epochs=1, settings={"server.p99_target_ms": "0.001"})
    with node.ready() as client:
        first = client.add_examples((label, scan) for label in "01" for scan in digits[label][:40])
        client.wait_learned(first.ids, timeout=300)
        assert training_share(node) == 1, "nobody asks anything"

        def ask(stopping: threading.Event) -> None:
            while not stopping.wait(0.01):
                client.predict(digits["0"][0])

        with side_by_side(ask):
            until(lambda: training_share(node) < 0.2, what="yielding")
            taught = client.add_examples((label, scan) for label in "23" for scan in digits[label][:40])
            assert client.wait_learned(taught.ids, timeout=300) == 2
            assert training_share(node) < 1
        until(lambda: training_share(node) > 0.3, what="going on")


def training_share(node: Node) -> float:
    address = json.loads((node.data_dir / "learner.json").read_text())["metrics"]
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=300) as page:
        lines = page.read().decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("accrete_training_share "))
