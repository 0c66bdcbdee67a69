"""The lease of the one learner, and the one write that ends a step."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from accrete_kit.failpoints import around
from accrete_storage.errors import Fenced, InputsChanged
from accrete_storage.examples.example import Example, pack
from accrete_storage.examples.ids import position_after
from accrete_storage.examples.quarantine import entry_arguments, script_keys
from accrete_storage.redis.database import Database
from accrete_storage.redis.keys import Keys
from accrete_storage.versions.record import VersionRecord

_STAGED_EXPIRY_MS = 3_600_000
"""A step that is staged commits within seconds; what a killed learner left expires."""
_FIXED_KEYS = 12


class Lease:
    """The right to commit, which one learner at a time has, under an epoch greater than all before it."""

    def __init__(self, database: Database, keys: Keys, owner: str, epoch: int, ttl_ms: int) -> None:
        self._database = database
        self._keys = [keys.lease, keys.state]
        self._owner = owner
        self._ttl_ms = ttl_ms
        self.epoch = epoch

    def renew(self) -> None:
        """Keep it for another term.

        Raises:
            Fenced: another learner has taken it.
        """
        self._touch(self._ttl_ms)

    def release(self) -> None:
        """Give it back.

        Raises:
            Fenced: another learner has taken it.
        """
        self._touch(0)

    def _touch(self, ttl_ms: int) -> None:
        if not self._database.call("lease_renew", self._keys, [self.epoch, self._owner, ttl_ms]):
            raise Fenced(f"the lease of epoch {self.epoch} is another learner's now")


def acquire_lease(database: Database, keys: Keys, owner: str, ttl_s: float) -> Lease | None:
    """Return the lease under a new epoch, or None while another learner has it."""
    ttl_ms = int(ttl_s * 1000)
    epoch = database.call("lease_acquire", [keys.lease, keys.state], [owner, ttl_ms])
    return Lease(database, keys, owner, epoch, ttl_ms) if epoch else None


@dataclass(frozen=True, kw_only=True)
class Commit:
    """A step that passed the gate."""

    epoch: int
    revision: int
    """Read before the step's inputs were."""
    step_id: str
    """Of this attempt alone; to commit it again changes nothing."""
    record: VersionRecord
    consumed: Mapping[str, str]
    """By label, the last position that the step learned."""
    per_class: int
    """Exemplars that each class may keep."""
    backbone: str = ""
    """Digest of the backbone that the staged features are of, where it is not the stored features': those go."""
    unseen_below: Mapping[str, int] = field(default_factory=dict)
    """What `FeatureStore.unseen_below` returns from then on; counts with another backbone alone."""
    judgements: str = ""
    """What the version answered when it was judged, as `judgements.pack` returns it; "" keeps nothing."""
    activate: bool = True
    event: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Reject:
    """A step that did not pass the gate; its examples stay pending, in quarantine."""

    epoch: int
    step_id: str
    record: VersionRecord
    quarantined: Mapping[str, int]
    """By label, how many examples are pending."""
    event: dict[str, Any] = field(default_factory=dict)


class Steps:
    """Stages, commits and rejects steps."""

    def __init__(self, database: Database, keys: Keys) -> None:
        self._database = database
        self._keys = keys
        self._lengths: dict[tuple[str, str, str], int] = {}
        self._features: dict[tuple[str, str], int] = {}

    def stage(
        self,
        step_id: str,
        exemplars: Mapping[str, Sequence[Example]],
        holdout: Mapping[str, Sequence[Example]],
        features: Mapping[str, Mapping[str, bytes]],
    ) -> None:
        """Write what the commit will move into place; again replaces it. See `Store.stage`."""
        self._lengths = {}
        self._features = {}
        for kind, lists in (("exemplars", exemplars), ("holdout", holdout)):
            for label, examples in lists.items():
                self._write(self._keys.staged(step_id, kind, label), partial(_push, map(pack, examples)))
                self._lengths[step_id, kind, label] = len(examples)
        for label, by_id in features.items():
            if by_id:
                self._write(self._keys.staged(step_id, "features", label), partial(_set, by_id))
                self._features[step_id, label] = len(by_id)

    def _write(self, key: str, fill: Callable[[Any, str], None]) -> None:
        with around("stage"), self._database.transaction() as pipeline:
            pipeline.delete(key)
            fill(pipeline, key)
            pipeline.pexpire(key, _STAGED_EXPIRY_MS)
            pipeline.execute()

    def commit(self, commit: Commit, kept: Sequence[str]) -> bool:
        """End a step in one write.

        Args:
            commit: of the step, whose lists are staged.
            kept: labels of which something is kept; of those that are not in the record it is dropped.

        Returns:
            False when this step was committed before.

        Raises:
            Fenced: another learner has the lease.
            InputsChanged: examples of the step were deleted, a class forgotten or renamed, or staged data has expired.
            StoreUnavailable: whether it was committed is unknown; commit it again.
        """
        keys = self._keys
        names = [keys.state, keys.versions, keys.events, keys.quarantine, *keys.counted, keys.kept, keys.exemplar_bytes]
        if len(names) != _FIXED_KEYS:
            raise AssertionError("the script expects its fixed keys first")
        plan = _Plan(names)
        record = commit.record
        body = {
            "epoch": commit.epoch,
            "revision": commit.revision,
            "step_id": commit.step_id,
            "version": str(record.version),
            "record": _stamped(record, commit.step_id),
            "activate": commit.activate,
            "event": json.dumps(commit.event),
            "activated": json.dumps({"version": record.version, "pinned": False}),
            "quota": commit.per_class,
            "consumed": [
                [label, plan.key(keys.pending(label)), position_after(upto)] for label, upto in commit.consumed.items()
            ],
            "moves": [
                [label, plan.key(keys.staged(step, kind, label)), plan.key(self._target(kind, label)), length, kind]
                for (step, kind, label), length in self._lengths.items()
                if step == commit.step_id
            ],
            "trims": [[label, plan.key(keys.exemplars(label))] for label in record.labels],
            "features": [
                [label, plan.key(keys.staged(step, "features", label)), plan.key(keys.features(label)), length]
                for (step, label), length in self._features.items()
                if step == commit.step_id
            ],
            "judgements": plan.key(keys.judgements) if commit.judgements else 0,
            "backbone": commit.backbone,
            "unseen_below": json.dumps(dict(commit.unseen_below)),
            "stale": [plan.key(keys.features(label)) for label in (kept if commit.backbone else ())],
            "drops": [
                [label, *(plan.key(key(label)) for key in (keys.exemplars, keys.holdout, keys.features))]
                for label in sorted(set(kept).difference(record.labels))
            ],
        }
        with around("commit"):
            answer = self._database.call("commit", names, [json.dumps(body), commit.judgements])
        return self._outcome(answer, commit.epoch)

    def reject(self, reject: Reject) -> bool:
        """Record a rejected version, and put its examples into quarantine.

        Returns:
            False when it was recorded before.

        Raises:
            Fenced: another learner has the lease.
            InputsChanged: a class was renamed or merged meanwhile.
        """
        record = _stamped(reject.record, reject.step_id)
        arguments = [reject.epoch, reject.step_id, reject.record.version, record, reject.record.revision]
        arguments += ["rejected", json.dumps(reject.event)]
        arguments += entry_arguments(reject.quarantined, reject.record.reason, attempts=1)
        return self._outcome(self._database.call("quarantine", script_keys(self._keys), arguments), reject.epoch)

    def _target(self, kind: str, label: str) -> str:
        return self._keys.exemplars(label) if kind == "exemplars" else self._keys.holdout(label)

    @staticmethod
    def _outcome(answer: bytes, epoch: int) -> bool:
        if answer == b"FENCED":
            raise Fenced(f"epoch {epoch} is over: another learner holds the lease")
        if answer == b"CHANGED":
            raise InputsChanged("examples were deleted, or a class forgotten or renamed, while the step ran")
        return answer == b"OK"


class _Plan:
    """Keys by number, as the script names them."""

    def __init__(self, names: list[str]) -> None:
        self._names = names

    def key(self, name: str) -> int:
        self._names.append(name)
        return len(self._names)


def _push(records: Iterable[bytes], pipeline: Any, key: str) -> None:
    for record in records:
        pipeline.rpush(key, record)


def _set(by_id: Mapping[str, bytes], pipeline: Any, key: str) -> None:
    pipeline.hset(key, mapping=dict(by_id))


def _stamped(record: VersionRecord, step_id: str) -> str:
    return replace(record, step_id=step_id).to_json()
