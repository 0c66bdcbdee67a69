"""Random sequences of all that names a class, with renaming and merging between, against a simple model in memory."""

from __future__ import annotations

import itertools
import tempfile
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accrete_storage.config import HoldoutConfig, StoreConfig
from accrete_storage.errors import LabelInUse, NotFound
from accrete_storage.examples.example import Example
from accrete_storage.examples.ids import is_holdout, position_key
from accrete_storage.examples.pending import Outcome
from accrete_storage.examples.review import Selection
from accrete_storage.store import Store
from accrete_storage.versions.commit import Lease

from .conftest import assert_counters_exact, ids, lease, step

pytestmark = pytest.mark.integration

LABELS = ("a", 'é|"🦊', "2|1-1|0|a")
"""Two of which look like parts of what is stored."""
SHARE = 0.3
PER_CLASS = 2
_runs = itertools.count()

NUMBER, LABEL = st.integers(0, 6), st.sampled_from(LABELS)
ACTION = st.one_of(
    st.tuples(st.just("add"), LABEL, LABEL, NUMBER, st.integers(0, 1)),
    st.tuples(st.just("add"), LABEL, LABEL, NUMBER, st.just(0)),
    st.tuples(st.just("rename"), LABEL, LABEL, st.just(0), st.just(0)),
    st.tuples(st.just("merge"), LABEL, LABEL, st.just(0), st.just(0)),
    st.tuples(st.just("commit"), LABEL, LABEL, NUMBER, st.just(0)),
    st.tuples(st.sampled_from(("delete", "review", "release", "forget")), LABEL, LABEL, NUMBER, st.just(0)),
)


@dataclass(eq=False)
class Class:
    """One class, whatever it is called."""

    label: str
    into: Class | None = None
    forgotten: bool = False
    known: bool = False
    pending: set[str] = field(default_factory=set)
    review: set[str] = field(default_factory=set)
    kept: list[str] = field(default_factory=list)
    holdout: list[str] = field(default_factory=list)
    features: set[str] = field(default_factory=set)

    @property
    def now(self) -> Class:
        return self if self.into is None else self.into.now

    @property
    def stored(self) -> set[str]:
        return self.pending | self.review | {*self.kept, *self.holdout} | self.features

    @property
    def alive(self) -> bool:
        return self.known or bool(self.stored)

    def remove(self, name: str) -> bool:
        found = name in self.stored
        for names in (self.pending, self.review, self.features):
            names.discard(name)
        self.kept, self.holdout = ([one for one in names if one != name] for names in (self.kept, self.holdout))
        return found


class Model:
    """What ought to be there."""

    def __init__(self) -> None:
        self.classes: dict[str, Class] = {}
        self.seen: dict[str, tuple[str, int, Class]] = {}
        self.consumed: set[str] = set()
        self.versions: list[list[Class]] = []

    def of(self, label: str) -> Class:
        return self.classes.setdefault(label, Class(label))

    def add(self, name: str, label: str, value: int) -> Outcome:
        if name in self.seen and not self.seen[name][2].now.forgotten:
            stored_label, stored_value, stored_in = self.seen[name]
            if stored_value == value and stored_label == label:
                return Outcome.DUPLICATE
            same = stored_value == value and stored_in.now is self.classes.get(label)
            return Outcome.EARLIER if same else Outcome.CONFLICT
        self.seen[name] = label, value, self.of(label)
        self.consumed.discard(name)
        self.of(label).pending.add(name)
        return Outcome.STORED

    def rename(self, label: str, new_label: str) -> None:
        one = self.classes.pop(label)
        one.label = new_label
        self.classes[new_label] = one

    def merge(self, label: str, into: str) -> None:
        one, other = self.classes.pop(label), self.of(into)
        one.into = other
        other.known |= one.known
        other.pending |= one.pending
        other.review |= one.review
        other.features |= one.features
        pairs = zip_longest(other.kept, one.kept)
        other.kept = [name for pair in pairs for name in pair if name is not None]
        other.holdout += one.holdout

    def forget(self, label: str) -> None:
        self.classes.pop(label).forgotten = True

    def delete(self, name: str) -> bool:
        found = any(one.remove(name) for one in self.classes.values())
        if found:
            del self.seen[name]
        return found

    def commit(self, taken: dict[str, list[str]]) -> None:
        known = [one for one in self.classes.values() if one.known and one.label not in taken]
        for label, names in taken.items():
            one = self.of(label)
            one.pending, one.known = set(), True
            one.kept = [name for name in names if not is_holdout(name, SHARE)][:2]
            one.holdout = [name for name in names if is_holdout(name, SHARE)]
            one.features |= {name for name in names if int(name) % 2}
            self.consumed.update(names)
        rows = [*known, *(self.of(label) for label in taken)]
        for one in rows:
            one.kept = one.kept[:PER_CLASS]
        self.versions.append(rows)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=st.lists(ACTION, min_size=4, max_size=25))
def test_the_store_agrees_with_the_model(valkey: str, actions: list[tuple[str, str, str, int, int]]):
    config = StoreConfig(url=valkey, prefix=f"renaming{next(_runs)}")
    store = Store.connect(config, HoldoutConfig(share=SHARE), data_dir=Path(tempfile.gettempdir()))
    try:
        model, mine = Model(), lease(store)
        for action in actions:
            _play(store, model, mine, *action)
            _compare(store, model)
    finally:
        store.close()


def _play(
    store: Store, model: Model, mine: Lease, action: str, label: str, other: str, number: int, value: int
) -> None:
    name, one = str(number), model.of(label)
    if action == "add":
        example = Example(id=name, label=label, content=np.full((2, 2, 1), value, np.uint8))
        assert store.pending.add([example]) == [model.add(name, label, value)]
    elif action == "rename" and label != other and one.alive:
        if model.of(other).alive:
            with pytest.raises(LabelInUse):
                store.renaming.rename(label, other)
        else:
            assert store.renaming.rename(label, other).examples >= len(one.pending | one.review)
            model.rename(label, other)
    elif action == "merge" and label != other and one.alive:
        if model.of(other).alive:
            store.renaming.merge(label, other)
            model.merge(label, other)
        else:
            with pytest.raises(NotFound):
                store.renaming.merge(label, other)
    elif action == "commit":
        _commit(store, model, mine)
    elif action == "delete":
        assert store.control.delete_examples([name]).deleted == model.delete(name)
    elif action == "forget" and one.alive:
        store.control.forget_class(label)
        model.forget(label)
    elif action == "review":
        chosen = [(entry, "burst") for entry in store.pending.read(label) if entry.example.id == name]
        if store.review.set_aside(mine.epoch, label, chosen):
            one.pending.remove(name)
            one.review.add(name)
    elif action == "release" and one.review:
        assert store.review.release(Selection(label=label)) == len(one.review)
        one.pending |= one.review
        one.review = set()


def _commit(store: Store, model: Model, mine: Lease) -> None:
    taken = {label: [entry.example.id for entry in store.pending.read(label)] for label in store.pending.labels()}
    if not taken:
        return
    known = [one.label for one in model.classes.values() if one.known and one.label not in taken]
    features = {label: {name: b"abcd" for name in names if int(name) % 2} for label, names in taken.items()}
    assert store.commit(step(store, mine, list(taken), known=known, per_class=PER_CLASS, features=features))
    model.commit(taken)


def _compare(store: Store, model: Model) -> None:
    for label in LABELS:
        one, entries = model.of(label), store.pending.read(label)
        positions = [position_key(entry.position) for entry in entries]
        assert positions == sorted(positions)
        assert {entry.example.id for entry in entries} == one.pending
        assert {entry.example.label for entry in entries} <= {label}
        assert ids(store.memory.exemplars(label)) == one.kept
        assert ids(store.memory.holdout(label)) == one.holdout
        assert store.features.ids(label) == one.features
    assert {group.label: set(group.ids) for group in store.review.groups()} == {
        one.label: one.review for one in model.classes.values() if one.review
    }
    forgotten = store.registry.forgotten()
    for rows, record in zip(model.versions, store.registry.versions(), strict=True):
        expected = ["" if one.now.forgotten else one.now.label for one in rows]
        assert list(record.row_labels(forgotten)) == expected
    live = store.registry.versions()[-1].learned if model.versions else {}
    places = store.pending.locate(model.seen)
    for name, (_, _, one) in model.seen.items():
        if one.now.forgotten:
            assert name not in places
            continue
        place = places[name]
        assert place.label == one.now.label
        reached = live.get(place.label)
        has_learned = (
            not place.in_review and reached is not None and position_key(reached) >= position_key(place.position)
        )
        assert has_learned == (name in model.consumed)
    assert_counters_exact(store)
