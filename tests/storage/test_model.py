"""Random interleavings of all that writes, against a simple model in memory."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accrete_storage.config import HoldoutConfig, StoreConfig
from accrete_storage.errors import InputsChanged, NotFound
from accrete_storage.pending import Outcome
from accrete_storage.store import Store

from .conftest import assert_counters_exact, example, ids, lease, step

LABELS = "abc"
_runs = itertools.count()

ACTION = st.one_of(
    st.tuples(st.just("add"), st.sampled_from(LABELS), st.integers(0, 5), st.integers(0, 1)),
    st.tuples(st.just("delete"), st.sampled_from(LABELS), st.integers(0, 5), st.just(0)),
    st.tuples(st.just("forget"), st.sampled_from(LABELS), st.just(0), st.just(0)),
    st.tuples(st.just("commit"), st.sampled_from(LABELS), st.integers(0, 3), st.just(0)),
    st.tuples(st.just("late"), st.sampled_from(LABELS), st.integers(0, 5), st.just(0)),
)


class Model:
    """What ought to be there."""

    def __init__(self) -> None:
        self.pending: dict[str, list[str]] = {}
        self.kept: dict[str, list[str]] = {}
        self.seen: dict[str, int] = {}
        self.known: list[str] = []
        self.learned: dict[str, int] = {}

    def add(self, label: str, number: int, value: int) -> Outcome:
        name = f"{label}-{number}"
        if name in self.seen:
            return Outcome.DUPLICATE if self.seen[name] == value else Outcome.CONFLICT
        self.seen[name] = value
        self.pending.setdefault(label, []).append(name)
        return Outcome.STORED

    def delete(self, name: str, label: str) -> bool:
        found = False
        for place in (self.pending, self.kept):
            if name in place.get(label, []):
                place[label].remove(name)
                found = True
        if found:
            del self.seen[name]
        return found

    def forget(self, label: str) -> bool:
        if not self.pending.get(label) and not self.kept.get(label) and label not in self.known:
            return False
        self.pending.pop(label, None)
        self.kept.pop(label, None)
        self.seen = {name: value for name, value in self.seen.items() if not name.startswith(f"{label}-")}
        return True

    def commit(self, labels: list[str], quota: int) -> None:
        for label in labels:
            taken = self.pending.pop(label)
            self.kept[label] = taken[:2]
            for name in taken:
                self.learned[name] = self.learned.get(name, 0) + 1
        self.known += [label for label in labels if label not in self.known]
        self.kept = {label: names[:quota] for label, names in self.kept.items()}


@pytest.fixture(params=["valkey", "redis_server"])
def store_url(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(request.param)
    return found


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=st.lists(ACTION, max_size=25))
def test_the_store_agrees_with_the_model(store_url: str, actions: list[tuple[str, str, int, int]]):
    config = StoreConfig(url=store_url, prefix=f"model{next(_runs)}")
    store = Store.connect(config, HoldoutConfig(share=0.0), data_dir=Path(tempfile.gettempdir()))
    try:
        _play(store, actions)
    finally:
        store.close()


def _play(store: Store, actions: list[tuple[str, str, int, int]]) -> None:
    model, mine = Model(), lease(store)
    for action, label, number, value in actions:
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
        else:
            _commit(store, model, mine, late=action == "late", label=label, number=number)
        _compare(store, model)


def _commit(store: Store, model: Model, mine, *, late: bool, label: str, number: int) -> None:
    """A step with all that is pending; `late`: an example is deleted between its reading and its commit."""
    labels = [name for name, pending in model.pending.items() if pending]
    if not labels:
        return
    known = [name for name in model.known if name not in labels]
    commit = step(store, mine, labels, known=known, quota=number)
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
    kept = {label: ids(store.memory.exemplars(label)) for label in LABELS}
    assert kept == {label: model.kept.get(label, []) for label in LABELS}
    assert_counters_exact(store)
