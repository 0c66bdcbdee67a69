"""Reads one step's inputs from the store, and writes them as the folder that the trainer takes.

Shapes: n new, m exemplars; each has the network's input shape and type.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from accrete_learner.trainer import job as files
from accrete_learner.trainer.job import Job
from accrete_learner_service.config import LearnerServiceConfig
from accrete_learner_service.errors import NothingToLearn, StepFailed
from accrete_learner_service.step.holdout import split
from accrete_learner_service.step.shares import places
from accrete_storage.config import HoldoutConfig, TeachingConfig
from accrete_storage.examples.example import Example
from accrete_storage.examples.ids import position_key
from accrete_storage.store import Store
from accrete_storage.versions.record import VersionRecord

Tensors = NDArray[Any]

_NO_SHARES = TeachingConfig()


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """All that a step takes from the store, as it was at `revision` or later."""

    revision: int
    """Of deletions and forgetting, read before all else: the commit fails if it has grown."""
    version: int
    """The number of the candidate; expected, until it is reserved when there is one."""
    parent: VersionRecord | None
    """The version that the step starts from."""
    versions: Sequence[VersionRecord]
    """All versions so far."""
    labels: tuple[str, ...]
    """In the candidate's head order: the parent's that stay, then new ones as they arrived."""
    old_count: int
    """How many of `labels` the parent knows."""
    new: Sequence[Example]
    """To train on for the first time [n]."""
    exemplars: Sequence[Example]
    """Class by class, in rank order within each [m]."""
    holdout: dict[str, list[Example]]
    """The hold-out by label, as it will be after the step."""
    consumed: dict[str, str]
    """The position of the last pending example taken, by label."""
    counts: dict[str, int]
    """Pending examples taken, by label."""

    @property
    def old_labels(self) -> tuple[str, ...]:
        """Labels that the parent knows, without the forgotten ones."""
        return self.labels[: self.old_count]

    @property
    def new_labels(self) -> tuple[str, ...]:
        """Labels that the step adds."""
        return self.labels[self.old_count :]

    @property
    def parent_version(self) -> int:
        """The parent's number; 0 without one."""
        return 0 if self.parent is None else self.parent.version

    @property
    def old_holdout(self) -> dict[str, list[Example]]:
        """The hold-out of the labels that the parent knows."""
        return {label: self.holdout[label] for label in self.old_labels}

    @property
    def trained(self) -> frozenset[str]:
        """Labels with new examples: their exemplars are chosen anew."""
        return frozenset(example.label for example in self.new)


def kept_labels(parent: VersionRecord | None, forgotten: dict[str, int]) -> tuple[str, ...]:
    """The parent's labels, in its head's order, without those forgotten since its inputs were read."""
    return () if parent is None else parent.kept_labels(forgotten)


def lost_labels(store: Store, kept: Collection[str]) -> frozenset[str]:
    """Labels with a memory that the parent does not know: only versions that were given up did. They are to be learned
    again from it.
    """
    return frozenset(store.memory.labels()).difference(kept)


def learned_before(versions: Sequence[VersionRecord]) -> dict[str, str]:
    """By label, the last position that any of the versions, oldest first, has taken in: given up or not, it is not
    pending any more.
    """
    taken: dict[str, str] = {}
    for record in versions:
        if record.state != "rejected":
            taken |= record.learned
    return taken


def read_inputs(
    store: Store, labels: Collection[str], holdout: HoldoutConfig, teaching: TeachingConfig = _NO_SHARES
) -> Inputs:
    """Reads what a step with the pending examples of `labels` takes.

    Raises:
        NothingToLearn: there is no example to train on.
        StoreUnavailable: the store does not answer.
    """
    revision = store.registry.state().revision
    parent = store.registry.latest_ready()
    versions = store.registry.versions()
    kept = kept_labels(parent, store.registry.forgotten())
    lost = lost_labels(store, kept)
    each = places(teaching.holdout_share, holdout.cap)
    taken = {
        label: _take(
            store, label, known=label in kept, lost=label in lost, pending=label in labels, cap=holdout.cap, each=each
        )
        for label in {*labels, *lost}
    }
    taken = {label: part for label, part in taken.items() if part.new or (part.counts and label in kept)}
    if not any(part.new for part in taken.values()):
        raise NothingToLearn("no pending example to train on")
    # Labels of one batch arrived at the same moment: by name then, so that the order is the same at each attempt.
    before = learned_before(versions)
    added = sorted(
        (position_key(before[label] if label in lost else part.first), label)
        for label, part in taken.items()
        if label not in kept
    )
    untouched = {label: store.memory.holdout(label) for label in kept if label not in taken}
    return Inputs(
        revision=revision,
        version=store.registry.next_version(),
        parent=parent,
        versions=versions,
        labels=(*kept, *(label for _, label in added)),
        old_count=len(kept),
        new=[example for part in taken.values() for example in part.new],
        exemplars=[example for label in kept for example in store.memory.exemplars(label)],
        holdout=untouched | {label: part.holdout for label, part in taken.items()},
        consumed={label: part.last for label, part in taken.items() if part.counts},
        counts={label: part.counts for label, part in taken.items() if part.counts},
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Taken:
    """What a step takes of one label's pending examples."""

    new: list[Example]
    holdout: list[Example]
    first: str
    last: str
    counts: int


def _take(store: Store, label: str, *, known: bool, lost: bool, pending: bool, cap: int, each: int) -> _Taken:
    entries = store.pending.read(label) if pending else []
    # A label that is not known may have a hold-out of its own only from before it was forgotten: not its own any more.
    old = store.memory.holdout(label) if known or lost else []
    again = store.memory.exemplars(label) if lost else []
    parts = split(old, (entry.example for entry in entries if entry.holdout), cap=cap, each=each)
    return _Taken(
        new=[*again, *(entry.example for entry in entries if not entry.holdout), *parts.trained],
        holdout=parts.kept,
        first=entries[0].position if entries else "",
        last=entries[-1].position if entries else "",
        counts=len(entries),
    )


def write_job(folder: Path, inputs: Inputs, config: LearnerServiceConfig, parent_files: Path | None) -> None:
    """Writes the step's folder for the trainer; job.json last. The hold-out is not for the trainer.

    Raises:
        StepFailed: an example does not have the network's input form.
        OSError: the disk is full or not there.
    """
    for example in chain.from_iterable(inputs.holdout.values()):
        _check_form(example, config)  # now, not after the training
    save_file(_tensors(inputs, config), folder / files.INPUTS_FILE)
    rows = {label: row for row, label in enumerate(inputs.parent.labels)} if inputs.parent else {}
    Job(
        version=inputs.version,
        labels=inputs.labels,
        old_count=inputs.old_count,
        # With every class forgotten there is nothing to continue, and what the weights remember of them must go.
        parent=str(parent_files) if parent_files is not None and inputs.old_count else None,
        parent_rows=tuple(rows[label] for label in inputs.old_labels),
        method=config.method,
        model=config.model,
        training=config.training,
        memory=config.memory,
    ).write(folder)


def exemplars_per_class(inputs: Inputs, config: LearnerServiceConfig) -> int:
    """Exemplars that each class may keep after the step."""
    return config.memory.per_class(len(inputs.labels))


def _tensors(inputs: Inputs, config: LearnerServiceConfig) -> dict[str, Tensors]:
    index = {label: row for row, label in enumerate(inputs.labels)}
    tensors: dict[str, Tensors] = {}
    for x, y, examples in (
        (files.INPUT_NEW_X, files.INPUT_NEW_Y, inputs.new),
        (files.INPUT_EXEMPLAR_X, files.INPUT_EXEMPLAR_Y, inputs.exemplars),
    ):
        if examples:
            tensors[x] = _stack(examples, config)
            tensors[y] = np.array([index[example.label] for example in examples], np.int64)
    if inputs.exemplars:
        tensors[files.INPUT_EXEMPLAR_RANK] = np.array(list(_ranks(inputs.exemplars)), np.int64)
    return tensors


def _stack(examples: Sequence[Example], config: LearnerServiceConfig) -> Tensors:
    for example in examples:
        _check_form(example, config)
    return np.stack([example.tensor for example in examples])


def _check_form(example: Example, config: LearnerServiceConfig) -> None:
    shape, dtype = config.model.input_shape, config.model.input_dtype
    # An exemplar that a step made may have been stored with more digits than an image has.
    if example.tensor.shape != shape or example.tensor.dtype.name not in (dtype, "float16"):
        got = f"{example.tensor.dtype} {list(example.tensor.shape)}"
        raise StepFailed(f"example {example.id!r} is {got}; the network takes {dtype} {list(shape)}")


def _ranks(exemplars: Sequence[Example]) -> Iterator[int]:
    """The rank of each within its class; classes come one after the other."""
    rank, before = 0, None
    for example in exemplars:
        rank = rank + 1 if example.label == before else 0
        before = example.label
        yield rank
