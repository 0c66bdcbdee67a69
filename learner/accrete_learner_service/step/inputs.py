"""What one step takes from the store."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from accrete_learner_service.errors import NothingToLearn
from accrete_learner_service.labels import known_labels, learned_positions, lost_labels
from accrete_learner_service.principal_shares import places_of_one
from accrete_learner_service.step.holdout import choose_holdout
from accrete_storage.config import HoldoutConfig, TeachingConfig
from accrete_storage.examples.example import Example
from accrete_storage.examples.ids import position_key
from accrete_storage.store import Store
from accrete_storage.versions.record import VersionRecord

_NO_SHARES = TeachingConfig()


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """All that a step takes from the store, as it was at `revision` or later."""

    revision: int
    """Of deletions and forgetting, read before all else: the commit fails if it has grown."""
    version: int
    """The number of the candidate, as expected until it is reserved."""
    parent: VersionRecord | None
    """The version that the step starts from."""
    versions: Sequence[VersionRecord]
    """All versions so far."""
    labels: tuple[str, ...]
    """In the candidate's head order: the parent's that stay, then new ones as they arrived."""
    old_count: int
    """How many of `labels` the parent knows."""
    new: Sequence[Example]
    """To train on for the first time."""
    exemplars: Sequence[Example]
    """Class by class, in rank order within each."""
    holdout: dict[str, list[Example]]
    """The hold-out by label, as it will be after the step."""
    consumed: dict[str, str]
    """The position of the last pending example taken, by label."""
    counts: dict[str, int]
    """Pending examples taken, by label."""
    shrunk: frozenset[str] = frozenset()
    """Labels of whose hold-out some are trained on without any new example: after a merge there were too many."""

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
        """The parent's number, or 0 without one."""
        return 0 if self.parent is None else self.parent.version

    @property
    def old_holdout(self) -> dict[str, list[Example]]:
        """The hold-out of the labels that the parent knows."""
        return {label: self.holdout[label] for label in self.old_labels}

    @property
    def trained(self) -> frozenset[str]:
        """Labels with new examples, whose exemplars are chosen anew."""
        return frozenset(example.label for example in self.new)


def read_inputs(
    store: Store, labels: Collection[str], holdout_config: HoldoutConfig, teaching: TeachingConfig = _NO_SHARES
) -> Inputs:
    """Read what a step with the pending examples of `labels` takes.

    Labels that were lost with a version that was given up are learned again from their exemplars. Hold-outs that are
    too large, as after a merge, shrink.

    Raises:
        NothingToLearn: there is no example to train on.
        StoreUnavailable: the store does not answer.
    """
    revision = store.registry.state().revision
    parent = store.registry.latest_ready()
    versions = store.registry.versions()
    known = known_labels(parent, store.registry.forgotten())
    lost = lost_labels(store, known)
    learned = learned_positions(versions)
    per_principal = places_of_one(teaching.holdout_share, holdout_config.cap)

    new: list[Example] = []
    holdout: dict[str, list[Example]] = {}
    consumed: dict[str, str] = {}
    counts: dict[str, int] = {}
    added: list[tuple[tuple[int, int], str]] = []
    kept = store.memory.counts()
    too_large = {label for label in known if label in kept and kept[label].holdout > holdout_config.cap}
    for label in sorted({*labels, *lost, *too_large}):
        entries = store.pending.read(label) if label in labels else []
        # A new label may have a hold-out from before it was forgotten: that is not its own any more.
        old_holdout = store.memory.holdout(label) if label in known or label in lost else []
        set_aside = (entry.example for entry in entries if entry.holdout)
        chosen, left_over = choose_holdout(old_holdout, set_aside, cap=holdout_config.cap, per_principal=per_principal)
        again = store.memory.exemplars(label) if label in lost else []
        training = [*again, *(entry.example for entry in entries if not entry.holdout), *left_over]
        if not training and label not in known and chosen:
            # By chance all of its few images were set aside. A class that is never learned needs no measure.
            chosen, training = chosen[: len(chosen) // 2], chosen[len(chosen) // 2 :]
        if not training and not (entries and label in known):
            continue
        new += training
        holdout[label] = chosen
        if entries:
            consumed[label], counts[label] = entries[-1].position, len(entries)
        if label not in known:
            # Labels of one batch arrived at the same moment: by name then, so that each attempt has the same order.
            added.append((position_key(learned[label] if label in lost else entries[0].position), label))
    if not new:
        raise NothingToLearn("no pending example to train on")
    return Inputs(
        revision=revision,
        version=store.registry.next_version(),
        parent=parent,
        versions=versions,
        labels=(*known, *(label for _, label in sorted(added))),
        old_count=len(known),
        new=new,
        exemplars=[example for label in known for example in store.memory.exemplars(label)],
        holdout={label: store.memory.holdout(label) for label in known if label not in holdout} | holdout,
        consumed=consumed,
        counts=counts,
        shrunk=frozenset(too_large.difference(consumed)),
    )
