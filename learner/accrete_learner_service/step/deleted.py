"""What is left of a step's inputs and exemplars once examples were deleted while it ran.

For steps that train, which deletions would otherwise keep from ever ending. The weights have seen what is deleted, as
they have where it is deleted a moment after the commit; nothing of it is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from accrete_learner_service.step.inputs import Inputs
from accrete_storage.errors import InputsChanged
from accrete_storage.examples.example import Example
from accrete_storage.store import Store


def without_deleted(
    store: Store, inputs: Inputs, exemplars: Mapping[str, Sequence[Example]]
) -> tuple[Inputs, dict[str, list[Example]]]:
    """Return the inputs, as of the store's revision now, and the chosen exemplars, without what was deleted.

    Raises:
        InputsChanged: a class was forgotten, renamed or merged meanwhile, or the version that the step starts from was
            given up.
        StoreUnavailable: the store does not answer.
    """
    state = store.registry.state()  # first, so that what is deleted from here on is found by the commit
    if state.renamed > inputs.revision:
        raise InputsChanged("a class was renamed or merged during the step")
    forgotten = store.registry.forgotten()
    if any(forgotten.get(label, 0) > inputs.revision for label in inputs.labels):
        raise InputsChanged("a class was forgotten during the step")
    if store.registry.latest_ready() != inputs.parent:
        raise InputsChanged("the version that the step starts from was given up")
    given = {example.id for example in [*inputs.new, *inputs.exemplars, *_all(inputs.holdout)]}
    deleted = given - _kept(store, inputs.labels)
    left = {label: _left(found, deleted) for label, found in exemplars.items()}
    holdout = {label: _left(found, deleted) for label, found in inputs.holdout.items()}
    return replace(
        inputs,
        revision=state.revision,
        new=_left(inputs.new, deleted),
        exemplars=_left(inputs.exemplars, deleted),
        holdout=holdout,
    ), left


def _kept(store: Store, labels: Iterable[str]) -> set[str]:
    """Return the ids of all examples of some labels that are stored."""
    found: set[str] = set()
    for label in labels:
        found.update(entry.example.id for entry in store.pending.read(label))
        found.update(example.id for example in [*store.memory.exemplars(label), *store.memory.holdout(label)])
    return found


def _left(examples: Iterable[Example], deleted: set[str]) -> list[Example]:
    """Return those that were not deleted, nor made from one that was."""
    return [example for example in examples if deleted.isdisjoint((example.id, *example.made_from))]


def _all(lists: Mapping[str, Sequence[Example]]) -> Iterable[Example]:
    return (example for found in lists.values() for example in found)
