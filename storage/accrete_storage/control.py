"""What operators ask of the learner, and what they take out of the store."""

import json
from collections.abc import Iterable
from dataclasses import dataclass

from accrete_storage.database import Database, reachable
from accrete_storage.errors import NotFound
from accrete_storage.example import unpack
from accrete_storage.keys import Keys
from accrete_storage.memory import ExemplarMemory
from accrete_storage.pending import PendingLog
from accrete_storage.registry import Registry


@dataclass(frozen=True, kw_only=True, slots=True)
class DeleteResult:
    """What became of the ids."""

    deleted: int
    unknown: list[str]
    """Not kept anywhere."""


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
        """No step starts until `resume`."""
        self._set("paused", "1")

    def resume(self) -> None:
        """Steps may start again."""
        self._set("paused", "0")

    def paused(self) -> bool:
        """Whether steps are kept from starting."""
        return self._get("paused") == b"1"

    def request_step(self) -> None:
        """Ask for a step with all that is pending."""
        self._set("step_request", "1")

    def take_step_request(self) -> bool:
        """Whether a step was asked for since this was last called."""
        with self._database.transaction() as pipeline:
            pipeline.hget(self._keys.state, "step_request")
            pipeline.hdel(self._keys.state, "step_request")
            asked, _ = pipeline.execute()
        return asked is not None

    def set_phase(self, epoch: int, phase: str, reason: str) -> bool:
        """Note what the learner does, with an event; False, and nothing noted, when another learner has taken over."""
        event = json.dumps({"phase": phase, "reason": reason})
        keys = [self._keys.state, self._keys.events]
        return bool(self._database.call("phase", keys, [epoch, phase, reason, event]))

    def phase(self) -> str:
        """What the learner did last; "waiting" at first."""
        return (self._get("phase") or b"waiting").decode()

    def delete_examples(self, ids: Iterable[str]) -> DeleteResult:
        """Remove examples from wherever they are kept."""
        wanted = list(dict.fromkeys(ids))
        keys = self._keys
        names = [keys.state, *keys.counted, keys.exemplar_bytes, keys.review_labels]
        plan = _Deletion(names, keys)
        for example_id, location in self._pending.locate(wanted).items():
            label, places = location.label, (keys.pending, keys.review_notes, keys.review_records)
            stream, notes, records = (plan.key(place(label)) for place in places)
            plan.pending.append([label, stream, location.position, example_id, notes, records])
        self._find_kept(plan, set(wanted))
        plan.seen = {example_id: plan.key(keys.seen(example_id)) for example_id in wanted}
        removed = {name.decode() for name in self._database.call("delete", names, plan.arguments())}
        if removed:
            self._database.rewrite_log()
        return DeleteResult(deleted=len(removed), unknown=[one for one in wanted if one not in removed])

    def _find_kept(self, plan: "_Deletion", wanted: set[str]) -> None:
        """Lists are short (budgets), so they are read whole: an id may be older than what is remembered of ids."""
        for label in self._memory.labels():
            for kind, key in (("exemplars", self._keys.exemplars(label)), ("holdout", self._keys.holdout(label))):
                with reachable():
                    records = self._database.client.lrange(key, 0, -1)
                for record in records:
                    example = unpack(record)
                    named = sorted(wanted & {example.id, *example.made_from})
                    if named:
                        plan.records.append(record)
                        plan.lists.append([label, plan.key(key), len(plan.records) + 1, kind, named])

    def forget_class(self, label: str) -> ForgetResult:
        """Remove all that is kept of a label and mask it in every version trained before now. Raises NotFound."""
        keys = self._keys
        latest = self._registry.latest_ready()
        names = [keys.state, *keys.counted, keys.kept, keys.exemplar_bytes]
        names += [keys.generations, keys.forgotten, keys.holds, keys.events]
        names += [keys.pending(label), keys.exemplars(label), keys.holdout(label)]
        names += [keys.review_notes(label), keys.review_records(label), keys.review_labels]
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


class _Deletion:
    """What the script is to remove."""

    def __init__(self, names: list[str], keys: Keys) -> None:
        self._names = names
        self._keys = keys
        self.pending: list[list[object]] = []
        self.lists: list[list[object]] = []
        self.records: list[bytes] = []
        self.seen: dict[str, int] = {}

    def key(self, name: str) -> int:
        self._names.append(name)
        return len(self._names)

    def arguments(self) -> list[str | bytes]:
        plan = {"pending": self.pending, "lists": self.lists, "seen": self.seen}
        return [json.dumps(plan), *self.records]
