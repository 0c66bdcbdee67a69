"""What operators ask of the learner, and what they remove from the store."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from accrete_storage.errors import NotFound
from accrete_storage.examples.deletion import Deletion
from accrete_storage.examples.example import unpack
from accrete_storage.examples.memory import ExemplarMemory
from accrete_storage.examples.pending import PendingLog
from accrete_storage.redis.database import Database, reachable
from accrete_storage.redis.keys import Keys
from accrete_storage.versions.registry import Registry


@dataclass(frozen=True, kw_only=True, slots=True)
class DeleteResult:
    """How many ids were deleted, and which were not."""

    deleted: int
    unknown: list[str]
    """Ids of which nothing is kept."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ForgetResult:
    """Examples removed with a class."""

    pending: int
    exemplars: int
    holdout: int


class Control:
    """Pause, request, delete, forget."""

    def __init__(
        self, database: Database, keys: Keys, *, pending: PendingLog, memory: ExemplarMemory, registry: Registry
    ) -> None:
        self._database = database
        self._keys = keys
        self._pending = pending
        self._memory = memory
        self._registry = registry

    def pause(self) -> None:
        """Keep steps from starting until `resume`."""
        self._set("paused", "1")

    def resume(self) -> None:
        """Let steps start again."""
        self._set("paused", "0")

    def paused(self) -> bool:
        """Return whether steps are kept from starting."""
        return self._get("paused") == b"1"

    def request_step(self) -> None:
        """Ask for a step with all that is pending."""
        self._set("step_request", "1")

    def take_step_request(self) -> bool:
        """Return whether a step was asked for since the last call."""
        with self._database.transaction() as pipeline:
            pipeline.hget(self._keys.state, "step_request")
            pipeline.hdel(self._keys.state, "step_request")
            asked, _ = pipeline.execute()
        return asked is not None

    def ask_to_yield(self, for_s: float) -> None:
        """Ask training to leave more of the machine to the servers for so many seconds."""
        with reachable():
            self._database.client.set(self._keys.late, "1", px=max(1, round(for_s * 1000)))

    def asked_to_yield(self) -> bool:
        """Return whether any server asks so now."""
        with reachable():
            return bool(self._database.client.exists(self._keys.late))

    def set_phase(self, epoch: int, phase: str, reason: str) -> bool:
        """Record what the learner does, with an event; return False, and do nothing, once another has taken over."""
        event = json.dumps({"phase": phase, "reason": reason})
        keys = [self._keys.state, self._keys.events]
        return bool(self._database.call("phase", keys, [epoch, phase, reason, event]))

    def phase_reason(self) -> str:
        """Return, for people, what started the phase or what keeps another from starting."""
        return (self._get("reason") or b"").decode()

    def phase(self) -> str:
        """Return the phase that the learner set last, "waiting" at first."""
        return (self._get("phase") or b"waiting").decode()

    def delete_examples(self, ids: Iterable[str]) -> DeleteResult:
        """Remove examples from wherever they are kept, and images from the inbox."""
        wanted = list(dict.fromkeys(ids))
        # What was found may have been learned, released or deleted by the time that it is to be removed: look again.
        while (removed := self._delete(wanted)) is None:
            pass
        if removed:
            self._database.rewrite_log()
        return DeleteResult(deleted=len(removed), unknown=[one for one in wanted if one not in removed])

    def reopen(self, ids: Iterable[str]) -> list[str]:
        """Undo what was said about items of the inbox, and return the ids of those.

        The examples that labelling stored are removed from wherever they are kept, in the same write.
        """
        wanted = list(dict.fromkeys(ids))
        removed: set[str] | None = None
        while removed is None:
            decisions = self._decisions(wanted)
            labels = {item_id: str(json.loads(decision)["label"]) for item_id, decision in decisions.items()}
            labelled = [item_id for item_id, label in labels.items() if label]
            removed = self._delete(labelled, sorted(set(labels.values())), decisions) if decisions else set()
        if removed:
            self._database.rewrite_log()
        return list(decisions)

    def _decisions(self, ids: list[str]) -> dict[str, str]:
        """Return what was said about items of the inbox (JSON), by id."""
        if not ids:
            return {}
        with reachable():
            found = self._database.client.hmget(self._keys.inbox_decisions, ids)
        return {item_id: value.decode() for item_id, value in zip(ids, found, strict=True) if value is not None}

    def _delete(
        self, wanted: list[str], labels: Iterable[str] | None = None, reopen: Mapping[str, str] | None = None
    ) -> set[str] | None:
        """Remove examples and return their ids, or remove nothing and return None when something moved meanwhile.

        Args:
            wanted: their ids, and those of items of the inbox.
            labels: among whose exemplars, hold-out and features they are looked for, besides what the labels are
                called now that they came under, so that it costs no look at all that is kept; None: among all.
            reopen: what was said about items of the inbox that are to stay and to be open again, by id.
        """
        reopen = reopen or {}
        keys = self._keys
        with reachable():
            moment = self._database.client.hmget(keys.state, "revision", "last_step")
        plan = Deletion(keys, *((value or b"").decode() for value in moment))
        places = self._pending.locate(wanted)
        for example_id, location in places.items():
            # Of what its class had learned before it was merged, the place has no position of its own.
            plan.add_pending(example_id, location, seen=not location.merged)
        for example_id, location in self._pending.search(set(wanted) - places.keys()):
            plan.add_pending(example_id, location, seen=False)
        # After the moment was read, which a step or a renaming ends.
        kept = self._memory.labels() if labels is None else {*labels, *(place.label for place in places.values())}
        self._find_kept(plan, set(wanted), sorted(kept))
        plan.add_seen(list(dict.fromkeys([*wanted, *reopen])))
        plan.reopen(reopen)
        removed = self._database.call("delete", plan.names, plan.arguments())
        return None if removed is None else {name.decode() for name in removed}

    def _find_kept(self, plan: Deletion, wanted: set[str], labels: Iterable[str]) -> None:
        """Add exemplars and hold-out to the plan, whose lists are short and are read whole, and features."""
        for label in labels:
            self._find_features(plan, label, sorted(wanted))
            for kind, key in (("exemplars", self._keys.exemplars(label)), ("holdout", self._keys.holdout(label))):
                with reachable():
                    records = self._database.client.lrange(key, 0, -1)
                for record in records:
                    example = unpack(record)
                    named = sorted(wanted & {example.id, *example.made_from})
                    if named:
                        plan.add_kept(label, kind, key, record, named)

    def _find_features(self, plan: Deletion, label: str, wanted: list[str]) -> None:
        key = self._keys.features(label)
        with reachable(), self._database.client.pipeline(transaction=False) as pipeline:
            for example_id in wanted:
                pipeline.hexists(key, example_id)
            found = pipeline.execute()
        for example_id, there in zip(wanted, found, strict=True):
            if there:
                plan.add_feature(key, example_id)

    def forget_class(self, label: str) -> ForgetResult:
        """Remove all that is kept of a label, and mask it in every version trained before now.

        Raises:
            NotFound: nothing is known of the label.
        """
        keys = self._keys
        latest = self._registry.latest_ready()
        names = [keys.state, *keys.counted, keys.kept, keys.exemplar_bytes]
        names += [keys.generations, keys.forgotten, keys.quarantine, keys.events]
        names += [keys.pending(label), keys.exemplars(label), keys.holdout(label)]
        names += [keys.review_notes(label), keys.review_records(label), keys.review_labels, keys.features(label)]
        names += [keys.versions, keys.judgements, *keys.inbox]
        # The learner would remove them as well, but it may be away, and predictions must be without the class at once.
        names += [keys.prototypes(record.version) for record in self._registry.versions() if record.state == "ready"]
        known = latest is not None and label in latest.labels
        arguments = [label, json.dumps({"label": label}), int(known)]
        counts = self._database.call("forget", names, arguments)
        if not counts:
            raise NotFound("label", label)
        self._database.rewrite_log()
        pending, exemplars, holdout = counts
        return ForgetResult(pending=pending, exemplars=exemplars, holdout=holdout)

    def _set(self, name: str, value: str) -> None:
        with self._database.transaction() as pipeline:
            pipeline.hset(self._keys.state, name, value)
            pipeline.execute()

    def _get(self, name: str) -> bytes | None:
        with reachable():
            value: bytes | None = self._database.client.hget(self._keys.state, name)
        return value
