"""Holds what callers were told against what the store and the versions have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from accrete_model.artifact_store import ArtifactStore
from accrete_model.errors import ModelError
from accrete_storage.config import HoldoutConfig
from accrete_storage.examples.ids import holdout_rank, is_holdout, position_key
from accrete_storage.examples.pending import Location
from accrete_storage.store import Store
from accrete_storage.versions.record import VersionRecord
from benchmarks.nemesis.ledger import Ledger


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The store at rest."""

    located: Mapping[str, Location]
    """Where each of the sent examples was stored; one that never was is missing."""
    pending: Mapping[str, Collection[str]]
    """Ids by label."""
    exemplars: Mapping[str, Collection[str]]
    holdout: Mapping[str, Collection[str]]
    records: Collection[VersionRecord]
    active: int


@dataclass(kw_only=True)
class Verdict:
    """What does not fit; all empty when everything does."""

    lost: set[str] = field(default_factory=set)
    """Acknowledged, and not stored."""
    foreign: set[str] = field(default_factory=set)
    """Kept, and never sent; or refused, and stored."""
    miscounted: dict[str, int] = field(default_factory=dict)
    """By label: examples that steps took in, less those stored up to where the live version has learned. Above 0:
    learned twice; below: skipped."""
    relearned: set[str] = field(default_factory=set)
    """Pending, and within what the live version has learned: it would be learned again."""
    overfull: dict[str, int] = field(default_factory=dict)
    """By label, how many exemplars there are when it is not the number that there should be."""
    leaked: set[str] = field(default_factory=set)
    """Exemplars that belong to the hold-out, or the other way round. Those set aside for which a class's hold-out has
    no room are trained on, highest rank first."""
    unreadable: dict[int, str] = field(default_factory=dict)
    """Versions whose files do not match their checksums."""
    unknown_versions: set[int] = field(default_factory=set)
    """Versions that answered, and that no commit made."""


def read(store: Store, sent: Collection[str]) -> Snapshot:
    """Return the store as it is now."""
    labels = store.pending.labels()
    kept = store.memory.labels()
    return Snapshot(
        located=store.pending.locate(sent),
        pending={label: [entry.example.id for entry in store.pending.read(label)] for label in labels},
        exemplars={label: [example.id for example in store.memory.exemplars(label)] for label in kept},
        holdout={label: [example.id for example in store.memory.holdout(label)] for label in kept},
        records=store.registry.versions(),
        active=store.registry.state().version,
    )


def check(
    ledger: Ledger, found: Snapshot, *, per_class: int, holdout: HoldoutConfig, answered: Collection[int] = ()
) -> Verdict:
    """Return what does not fit.

    Args:
        ledger: of all writers.
        found: the store at rest.
        per_class: exemplars of each class.
        holdout: what is set aside, and how much of it kept.
        answered: versions that answered a prediction.
    """
    verdict = Verdict()
    verdict.lost = ledger.acknowledged - set(found.located)
    kept = [name for group in (found.pending, found.exemplars, found.holdout) for ids in group.values() for name in ids]
    verdict.foreign = {name for name in kept if name not in ledger.sent} | (set(ledger.refused) & set(found.located))
    _check_learned(found, verdict)
    _check_memory(found, verdict, per_class=per_class, holdout=holdout)
    verdict.unknown_versions = set(answered) - {one.version for one in found.records if one.state != "rejected"}
    return verdict


def _check_learned(found: Snapshot, verdict: Verdict) -> None:
    """Every stored example is in exactly one step, or still pending."""
    made = [record for record in found.records if record.state != "rejected"]
    learned = next((record.learned for record in made if record.version == found.active), {})
    taken: Counter[str] = Counter()
    for record in made:
        taken.update(record.consumed)
    within: Counter[str] = Counter()
    for name, location in found.located.items():
        upto = learned.get(location.label)
        if upto is not None and position_key(location.position) <= position_key(upto):
            within[location.label] += 1
            if name in found.pending.get(location.label, ()):
                verdict.relearned.add(name)
    labels = set(taken) | set(within)
    verdict.miscounted = {name: taken[name] - within[name] for name in labels if taken[name] != within[name]}


def _check_memory(found: Snapshot, verdict: Verdict, *, per_class: int, holdout: HoldoutConfig) -> None:
    trainable: Counter[str] = Counter()
    for name, location in found.located.items():
        pending = name in found.pending.get(location.label, ())
        trainable[location.label] += not pending and name not in found.holdout.get(location.label, ())
    for label, ids in found.exemplars.items():
        if len(set(ids)) != min(per_class, trainable[label]) or len(set(ids)) != len(ids):
            verdict.overfull[label] = len(ids)
        holdout_ids = found.holdout.get(label, ())
        last = max(map(holdout_rank, holdout_ids), default=0) if len(holdout_ids) >= holdout.cap else 2**64
        allowed = _all_set_aside(found, label, holdout)
        verdict.leaked |= {
            name for name in set(ids) - allowed if is_holdout(name, holdout.share) and holdout_rank(name) <= last
        }
    for label, ids in found.holdout.items():
        verdict.leaked |= {name for name in ids if not is_holdout(name, holdout.share)}
        if len(ids) > holdout.cap:
            verdict.overfull[label] = len(ids)


def _all_set_aside(found: Snapshot, label: str, holdout: HoldoutConfig) -> set[str]:
    """Return what a class began with, if by chance all of it belongs to the hold-out: half of it is trained on then."""
    made = [record for record in found.records if record.state != "rejected" and label in record.learned]
    if not made:
        return set()
    upto = position_key(min(made, key=lambda record: record.version).learned[label])
    began = {name for name, at in found.located.items() if at.label == label and position_key(at.position) <= upto}
    return began if all(is_holdout(name, holdout.share) for name in began) else set()


def check_files(root: Path, records: Collection[VersionRecord], damaged: Collection[int]) -> dict[int, str]:
    """Return the versions with files that do not match their checksums, but for those that were damaged on purpose."""
    artifacts, unreadable = ArtifactStore(root), {}
    for record in records:
        if record.state != "ready" or record.version in damaged:
            continue
        try:
            artifacts.verify(record.version, record.digest)
        except ModelError as error:
            unreadable[record.version] = str(error)
    return unreadable
