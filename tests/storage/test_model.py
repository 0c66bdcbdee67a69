"""Random interleavings of all that writes, and of kills of the store, against a simple model in memory."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accrete_storage.config import HoldoutConfig, StoreConfig
from accrete_storage.embedded.server import EmbeddedStore, socket_url
from accrete_storage.errors import InputsChanged, NotFound
from accrete_storage.examples.ids import is_holdout
from accrete_storage.examples.pending import Outcome
from accrete_storage.examples.review import Selection
from accrete_storage.store import Store
from accrete_storage.versions.commit import Lease

from .conftest import assert_counters_exact, example, ids, lease, redis_process, step

pytestmark = pytest.mark.integration

LABELS = "abc"
SHARE = 0.3
_runs = itertools.count()

ACTION = st.one_of(
    st.tuples(st.just("add"), st.sampled_from(LABELS), st.integers(0, 5), st.integers(0, 1)),
    st.tuples(st.just("delete"), st.sampled_from(LABELS), st.integers(0, 5), st.just(0)),
    st.tuples(st.just("forget"), st.sampled_from(LABELS), st.just(0), st.just(0)),
    st.tuples(st.just("commit"), st.sampled_from(LABELS), st.integers(0, 3), st.just(0)),
    st.tuples(st.just("late"), st.sampled_from(LABELS), st.integers(0, 5), st.just(0)),
    st.tuples(st.just("review"), st.sampled_from(LABELS), st.integers(0, 5), st.just(0)),
    st.tuples(st.just("release"), st.sampled_from(LABELS), st.just(0), st.just(0)),
    st.tuples(st.just("drop"), st.sampled_from(LABELS), st.just(0), st.just(0)),
    st.tuples(st.just("staged"), st.just(""), st.just(0), st.just(0)),
    st.tuples(st.just("crash"), st.just(""), st.just(0), st.just(0)),
)


class Model:
    """What ought to be there."""

    def __init__(self) -> None:
        self.pending: dict[str, list[str]] = {}
        self.kept: dict[str, list[str]] = {}
        self.holdout: dict[str, list[str]] = {}
        self.review: dict[str, list[str]] = {}
        self.arrived: dict[str, int] = {}
        self._clock = itertools.count()
        self.seen: dict[str, int] = {}
        self.known: list[str] = []
        self.learned: dict[str, int] = {}

    def add(self, label: str, number: int, value: int) -> Outcome:
        name = f"{label}-{number}"
        if name in self.seen:
            return Outcome.DUPLICATE if self.seen[name] == value else Outcome.CONFLICT
        self.seen[name] = value
        self._append(name, label)
        return Outcome.STORED

    def delete(self, name: str, label: str) -> bool:
        found = False
        for place in (self.pending, self.kept, self.holdout, self.review):
            if name in place.get(label, []):
                place[label].remove(name)
                found = True
        if found:
            del self.seen[name]
        return found

    def forget(self, label: str) -> bool:
        places = (self.pending, self.kept, self.holdout, self.review)
        if not any(place.get(label) for place in places) and label not in self.known:
            return False
        for place in places:
            place.pop(label, None)
        self.seen = {name: value for name, value in self.seen.items() if not name.startswith(f"{label}-")}
        return True

    def set_aside(self, name: str, label: str) -> None:
        self.pending[label].remove(name)
        self.review.setdefault(label, []).append(name)

    def release(self, label: str) -> None:
        for name in sorted(self.review.pop(label), key=self.arrived.__getitem__):
            self._append(name, label)

    def _append(self, name: str, label: str) -> None:
        self.pending.setdefault(label, []).append(name)
        self.arrived[name] = next(self._clock)

    def drop(self, label: str) -> None:
        for name in self.review.pop(label):
            del self.seen[name]

    def commit(self, labels: list[str], per_class: int) -> None:
        for label in labels:
            taken = self.pending.pop(label)
            self.kept[label] = [name for name in taken if not is_holdout(name, SHARE)][:2]
            self.holdout[label] = [name for name in taken if is_holdout(name, SHARE)]
            for name in taken:
                self.learned[name] = self.learned.get(name, 0) + 1
        self.known += [label for label in labels if label not in self.known]
        self.kept = {label: names[:per_class] for label, names in self.kept.items()}


class Mortal:
    """A store of the tests' own, to be killed."""

    def __init__(self, launch: Callable[[], tuple[str, int]]) -> None:
        self._launch = launch
        self.url, self._pid = launch()

    def crash(self) -> None:
        """`kill -9`, and up again."""
        os.kill(self._pid, signal.SIGKILL)
        self.url, self._pid = self._launch()


@pytest.fixture(params=["valkey", "redis_server"], scope="module")
def mortal(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mortal]:
    folder = tmp_path_factory.mktemp("mortal")
    running: list[EmbeddedStore | subprocess.Popen[bytes]] = []

    def valkey() -> tuple[str, int]:
        if not running:
            running.append(EmbeddedStore(folder, StoreConfig()))
        (server,) = running
        assert isinstance(server, EmbeddedStore)
        while server.alive():
            time.sleep(0.001)  # killed, and not ended yet
        server.start()
        return socket_url(folder), server.pid or 0

    def redis_server() -> tuple[str, int]:
        for process in running:
            assert isinstance(process, subprocess.Popen)
            process.wait()
        running[:] = [redis_process(folder)]
        return f"unix://{folder / 's'}", running[0].pid or 0

    if request.param == "redis_server" and shutil.which("redis-server") is None:
        pytest.skip("redis-server is not on the PATH")
    yield Mortal(valkey if request.param == "valkey" else redis_server)
    for one in running:
        if isinstance(one, EmbeddedStore):
            one.stop()
        else:
            one.terminate()
            one.wait()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=st.lists(ACTION, max_size=25))
def test_the_store_agrees_with_the_model(mortal: Mortal, actions: list[tuple[str, str, int, int]]):
    prefix = f"model{next(_runs)}"
    store = _connect(mortal, prefix)
    model, mine = Model(), lease(store)
    try:
        for action in actions:
            if action[0] == "crash":
                store.close()
                mortal.crash()
                store = _connect(mortal, prefix)
            _play(store, model, mine, *action)
    finally:
        store.close()


def _connect(mortal: Mortal, prefix: str) -> Store:
    config = StoreConfig(url=mortal.url, prefix=prefix)
    return Store.connect(config, HoldoutConfig(share=SHARE), data_dir=Path(tempfile.gettempdir()))


def _play(store: Store, model: Model, mine: Lease, action: str, label: str, number: int, value: int) -> None:
    if action == "add":
        assert store.pending.add([example(label, number, value)]) == [model.add(label, number, value)]
    elif action == "delete":
        expected = model.delete(f"{label}-{number}", label)
        assert store.control.delete_examples([f"{label}-{number}"]).deleted == expected
    elif action == "forget":
        if model.forget(label):
            store.control.forget_class(label)
        else:
            with pytest.raises(NotFound):
                store.control.forget_class(label)
    elif action in ("review", "release", "drop"):
        _review(store, model, mine, action, label, f"{label}-{number}")
    elif action == "staged":
        step(store, mine, [name for name, pending in model.pending.items() if pending])
    elif action != "crash":
        _commit(store, model, mine, late=action == "late", label=label, number=number)
    _compare(store, model)


def _review(store: Store, model: Model, mine: Lease, action: str, label: str, name: str) -> None:
    if action == "review":
        chosen = [(entry, "burst") for entry in store.pending.read(label) if entry.example.id == name]
        assert store.review.set_aside(mine.epoch, label, chosen) == len(chosen)
        if chosen:
            model.set_aside(name, label)
        return
    end = store.review.release if action == "release" else store.review.drop
    if not model.review.get(label):
        with pytest.raises(NotFound):
            end(Selection(label=label))
        return
    assert end(Selection(label=label)) == len(model.review[label])
    model.release(label) if action == "release" else model.drop(label)


def _commit(store: Store, model: Model, mine: Lease, *, late: bool, label: str, number: int) -> None:
    """A step with all that is pending; `late`: an example is deleted between its reading and its commit."""
    labels = [name for name, pending in model.pending.items() if pending]
    if not labels:
        return
    known = [name for name in model.known if name not in labels]
    commit = step(store, mine, labels, known=known, per_class=number)
    if late and model.delete(f"{label}-{number}", label):
        store.control.delete_examples([f"{label}-{number}"])
        with pytest.raises(InputsChanged):
            store.commit(commit)
        return
    assert store.commit(commit)
    assert not store.commit(commit)
    model.commit(labels, number)


def _compare(store: Store, model: Model) -> None:
    pending = {label: [entry.example.id for entry in store.pending.read(label)] for label in store.pending.counts()}
    assert pending == {label: names for label, names in model.pending.items() if names}
    reviewed = {group.label: sorted(group.ids) for group in store.review.groups()}
    assert reviewed == {label: sorted(names) for label, names in model.review.items() if names}
    kept = {label: ids(store.memory.exemplars(label)) for label in LABELS}
    assert kept == {label: model.kept.get(label, []) for label in LABELS}
    held_out = {label: ids(store.memory.holdout(label)) for label in LABELS}
    assert held_out == {label: model.holdout.get(label, []) for label in LABELS}
    assert_counters_exact(store)
