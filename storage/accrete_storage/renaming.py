"""Giving a class another name, and making it part of another class."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from accrete_kit.failpoints import around
from accrete_storage.errors import LabelInUse, NotFound
from accrete_storage.redis.database import Database
from accrete_storage.redis.keys import Keys
from accrete_storage.renames import Renames
from accrete_storage.versions.record import VersionRecord
from accrete_storage.versions.relabelled import Relabelling


@dataclass(frozen=True, kw_only=True, slots=True)
class RenameResult:
    """A class was renamed, or became part of another one."""

    examples: int
    """That were the class's."""
    revision: int
    """The store's from then on."""


@dataclass(frozen=True, kw_only=True)
class _Class:
    """How far a label is a class."""

    stored: bool
    """Whether anything is pending, kept, in review or in quarantine under it."""
    known: bool
    """Whether a version that may be live answers it."""
    masked: bool
    """Whether a version that may be live has it as a forgotten class."""

    @property
    def alive(self) -> bool:
        return self.stored or self.known


@dataclass(frozen=True, kw_only=True)
class _Moment:
    """All that a plan rests on, read at once."""

    revision: int
    records: Mapping[str, tuple[bytes, VersionRecord]]
    """By version, each as it is stored and what that says."""
    forgotten: Mapping[str, int]
    unseen_below: bytes
    renames: Renames
    classes: tuple[_Class, _Class]
    ready: tuple[str, ...]
    """Versions that may be live."""


class Renaming:
    """Renames and merges classes; each changes everything that names them in one script."""

    def __init__(self, database: Database, keys: Keys) -> None:
        self._database = database
        self._keys = keys

    def rename(self, label: str, new_label: str) -> RenameResult:
        """Give a class another label. Done again, it changes nothing.

        Raises:
            NotFound: nothing is known of the label.
            LabelInUse: the new one is a class.
            ValueError: both are the same.
        """
        return self._change(label, new_label, merge=False)

    def merge(self, label: str, into: str) -> RenameResult:
        """Make a class part of another one, whose examples its own are from then on. Done again, it changes nothing.

        Raises:
            NotFound: one of both is no class.
            ValueError: both are the same.
        """
        return self._change(label, into, merge=True)

    def _change(self, label: str, new_label: str, *, merge: bool) -> RenameResult:
        if label == new_label:
            raise ValueError(f"{label!r} cannot become {new_label!r}: both are the same")
        # What was read may be otherwise by the time that it is to be changed: look again.
        while True:
            moment = self._read(label, new_label)
            mine, others = moment.classes
            if not mine.alive and (merge or not mine.masked):
                return self._done_before(moment, label, new_label, merge=merge)
            if merge and not others.alive:
                raise NotFound("label", new_label, f"to call {label} that, rename it")
            if not merge and others.alive:
                raise LabelInUse(f"there is a class {new_label} already: merge {label} into it to put both together")
            plan = Relabelling(
                label=label,
                new_label=new_label,
                merge=merge,
                alive=mine.alive,
                forgotten=moment.forgotten,
                revision=moment.revision,
            )
            if (result := self._write(moment, plan)) is not None:
                return result

    def _done_before(self, moment: _Moment, label: str, new_label: str, *, merge: bool) -> RenameResult:
        """Return what a call that is made again is answered, whose first answer was lost perhaps.

        Raises:
            NotFound: it was never made.
        """
        last = moment.renames.last_of(label)
        if last is None or (last.new_label, last.merged) != (new_label, merge) or not moment.classes[1].alive:
            raise NotFound("label", label, "it is forgotten" if moment.classes[0].masked else "")
        return RenameResult(examples=0, revision=last.revision)

    def _read(self, label: str, new_label: str) -> _Moment:
        keys, both = self._keys, (label, new_label)
        with self._database.transaction() as pipeline:
            pipeline.hmget(keys.state, "revision", "unseen_below", "active")
            pipeline.hgetall(keys.versions)
            pipeline.hgetall(keys.forgotten)
            pipeline.hgetall(keys.generations)
            pipeline.hgetall(keys.renamed)
            for name in both:
                for labels in (keys.labels, keys.kept, keys.review_labels):
                    pipeline.sismember(labels, name)
                pipeline.hexists(keys.quarantine, name)
            (revision, unseen_below, active), stored, forgotten, generations, renamed, *there = pipeline.execute()
        forgotten = {name.decode(): int(at) for name, at in forgotten.items()}
        records = {number.decode(): (text, VersionRecord.from_json(text)) for number, text in stored.items()}
        # A version that was given up stays live until another is.
        ready = {
            number: record
            for number, (_, record) in records.items()
            if record.state == "ready" or number == (active or b"").decode()
        }
        classes = []
        for nth, name in enumerate(both):
            known = any(name in record.kept_labels(forgotten) for record in ready.values())
            masked = any(name in record.classes for record in ready.values())
            classes.append(_Class(stored=any(there[4 * nth : 4 * nth + 4]), known=known, masked=masked and not known))
        return _Moment(
            revision=int(revision or 0),
            records=records,
            forgotten=forgotten,
            unseen_below=unseen_below or b"",
            renames=Renames(renamed, generations),
            classes=(classes[0], classes[1]),
            ready=tuple(ready),
        )

    def _write(self, moment: _Moment, plan: Relabelling) -> RenameResult | None:
        """Return the result, or None when the moment has passed, and nothing was written."""
        keys = self._keys
        names = [keys.state, *keys.counted, keys.versions, keys.events, keys.kept, keys.exemplar_bytes, keys.quarantine]
        names += [keys.generations, keys.forgotten, keys.renamed, keys.review_labels, keys.seen("")]
        names += [keys.inbox_items, keys.inbox_decisions]
        names += [*keys.of_class(plan.label), *keys.of_class(plan.new_label)]
        names += [keys.prototypes(int(number)) for number in moment.ready]
        event = {"label": plan.label, "new_label": plan.new_label, "merged": plan.merge}
        body = {
            "label": plan.label,
            "new_label": plan.new_label,
            "merge": plan.merge,
            "alive": plan.alive,
            "revision": moment.revision,
            "stored": [one.stored for one in moment.classes],
            "count": len(moment.records),
            "event": json.dumps(event),
            "unseen_below": [moment.unseen_below.decode(), _unseen_below(moment.unseen_below, plan)],
        }
        arguments: list[str | bytes] = [json.dumps(body)]
        for number, (text, record) in moment.records.items():
            arguments += (number, hashlib.sha1(text).hexdigest(), plan.of(record).to_json())
        with around("relabel"):
            answer = self._database.call("rename", names, arguments)
        if answer is None:
            return None
        revision, examples = answer
        return RenameResult(examples=examples, revision=revision)


def _unseen_below(stored: bytes, plan: Relabelling) -> str:
    """Return what `FeatureStore.unseen_below` reads from then on.

    All examples of a label that is not there may measure, of two classes those that may measure in both.
    """
    ranks: dict[str, int] = json.loads(stored or b"{}")
    mine, others = ranks.pop(plan.label, None), ranks.pop(plan.new_label, None)
    found = [rank for rank in (mine, others if plan.merge else None) if rank is not None]
    if found:
        ranks[plan.new_label] = min(found)
    return json.dumps(ranks)
