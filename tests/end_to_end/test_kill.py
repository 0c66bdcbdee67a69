"""Whatever process is killed in the middle of a step: what was acknowledged is learned once, and Predict recovers."""

from __future__ import annotations

import threading
import time

import numpy as np

from accrete import AccreteError, Client, Progress
from benchmarks.node import Node

EXAMPLES = 45


class Asker:
    """Asks again and again, with the SDK's own retries, and keeps what failed."""

    def __init__(self, address: str, image: np.ndarray) -> None:
        self.answered = 0
        self.errors: list[str] = []
        self._stop = threading.Event()
        self._client = Client(address, timeout=300)
        self._image = image
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()

    def _ask(self) -> None:
        while not self._stop.is_set():
            try:
                self._client.predict(self._image)
                self.answered += 1
            except AccreteError as error:
                self.errors.append(repr(error))
            time.sleep(0.02)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        self._client.close()


def teach(client: Client, digits: dict[str, list[np.ndarray]], labels: str) -> list[str]:
    report = client.add_examples((label, image) for label in labels for image in digits[label][:EXAMPLES])
    assert not report.refused
    return report.ids


def test_a_kill_in_the_middle_of_a_step_loses_nothing_and_learns_everything_once(make_node, digits):
    """One node for all victims, one after the other, since a node's start costs more than a step."""
    node = make_node(epochs=40)
    with node.ready() as client:
        ids = teach(client, digits, "01")
        assert client.wait_learned(ids, timeout=300) == 1
        for victim, labels in (("step", "23"), ("learner", "45"), ("server", "67"), ("store", "89")):
            ids += _killed_while_learning(node, client, digits, victim, labels)

        ready = [version for version in client.versions() if version.state == "ready"]
        known = [version.labels for version in sorted(ready, key=lambda version: version.version)]
        assert known == [tuple("0123456789"[:count]) for count in (2, 4, 6, 8, 10)]
        _assert_learned_once(node, set(ids))


def _killed_while_learning(
    node: Node, client: Client, digits: dict[str, list[np.ndarray]], victim: str, labels: str
) -> list[str]:
    """Teach two labels, kill a process while they are trained, and see that callers notice nothing."""
    version = int(labels[0]) // 2 + 1
    asker = Asker(node.address, digits["0"][-1])
    training = threading.Event()
    watcher = threading.Thread(target=_wait_for_training, args=(node.address, version, training), daemon=True)
    watcher.start()
    log = len(node.log())
    ids = teach(client, digits, labels)
    assert training.wait(300), f"{victim}: the step did not start training"
    answered_before = asker.answered
    node.kill(victim)
    # The victim may be the server, which forgets who waits: the SDK asks again.
    assert client.wait_learned(ids, timeout=300) >= version, victim
    time.sleep(0.5)
    asker.stop()
    assert asker.answered > answered_before, f"{victim}: Predict did not recover"
    assert asker.errors == [], f"{victim}: the SDK's retries did not bridge the kill"
    assert ("killed by signal 9" if victim == "step" else "process.died") in node.log()[log:], "nothing was killed"
    return ids


def _wait_for_training(address: str, version: int, training: threading.Event) -> None:
    with Client(address) as client:
        for event in client.watch():
            match event:
                case Progress(stage="train", version=trained) if trained >= version:
                    training.set()
                    return


def _assert_learned_once(node: Node, ids: set[str]) -> None:
    with node.store() as store:
        assert store.pending.total().examples == 0
        records = [record for record in store.registry.versions() if record.state == "ready"]
        taken = [sum(record.consumed.values()) for record in records]
        assert sum(taken) == len(ids) == 10 * EXAMPLES
        kept = {label: store.memory.exemplars(label) for label in "0123456789"}
        assert {label: len(examples) for label, examples in kept.items()} == dict.fromkeys("0123456789", 5)
        kept_ids = [example.id for examples in kept.values() for example in examples]
        assert len(set(kept_ids)) == len(kept_ids)
        assert set(kept_ids) <= ids
