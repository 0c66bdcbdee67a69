"""The registry: every version's record, and which of them is live."""

from dataclasses import dataclass, replace

from accrete_storage.errors import Fenced, NotFound, VersionUnusable
from accrete_storage.redis.database import Database, reachable
from accrete_storage.redis.keys import Keys
from accrete_storage.versions.record import VersionRecord


@dataclass(frozen=True, kw_only=True, slots=True)
class ActiveState:
    """What is live."""

    version: int
    """0: none yet."""
    pinned: bool
    revision: int
    """Grows with every deletion and every class forgotten."""


class Registry:
    """Records of versions, and the active one."""

    def __init__(self, database: Database, keys: Keys) -> None:
        self._database = database
        self._keys = keys

    def versions(self) -> list[VersionRecord]:
        """All records, oldest first."""
        with reachable():
            stored = self._database.client.hvals(self._keys.versions)
        return sorted(map(VersionRecord.from_json, stored), key=lambda record: record.version)

    def version(self, number: int) -> VersionRecord:
        """One record. Raises NotFound."""
        return VersionRecord.from_json(self._stored(number))

    def next_version(self) -> int:
        """One more than the greatest number that a record has; rejected versions have one, too."""
        with reachable():
            numbers = self._database.client.hkeys(self._keys.versions)
        return 1 + max(map(int, numbers), default=0)

    def reserve(self, epoch: int) -> int:
        """The number for a candidate: for one learner alone, the next without a record, as a rule. Raises Fenced."""
        return self._number(epoch, reserve=True)

    def greatest_number(self, epoch: int) -> int:
        """The greatest number that is recorded or reserved; later learners use greater ones. Raises Fenced."""
        return self._number(epoch, reserve=False)

    def _number(self, epoch: int, *, reserve: bool) -> int:
        number: int = self._database.call("reserve", [self._keys.state, self._keys.versions], [epoch, int(reserve)])
        if number < 0:
            raise Fenced(f"epoch {epoch} is over: another learner holds the lease")
        return number

    def latest_ready(self) -> VersionRecord | None:
        """The newest version that passed the gate, whether it is live or not: the parent of the next step."""
        with reachable():
            latest = self._database.client.hget(self._keys.state, "latest")
        return None if latest is None else self.version(int(latest))

    def state(self) -> ActiveState:
        """What is live now."""
        with reachable():
            active, pinned, revision = self._database.client.hmget(self._keys.state, "active", "pinned", "revision")
        return ActiveState(version=int(active or 0), pinned=pinned == b"1", revision=int(revision or 0))

    def forgotten(self) -> dict[str, int]:
        """By label, the revision at which it was forgotten: it is masked in versions whose record has a smaller one."""
        with reachable():
            stored = self._database.client.hgetall(self._keys.forgotten)
        return {label.decode(): int(revision) for label, revision in stored.items()}

    def activate(self, version: int) -> None:
        """Make a version live and pin it. Raises NotFound, and VersionUnusable for one that is not ready."""
        if version < 1:
            raise NotFound("version", str(version))
        answer = self._switch(version)
        if isinstance(answer, list):
            if answer[0] == b"UNKNOWN":
                raise NotFound("version", str(version))
            raise VersionUnusable(f"version {version} is {answer[1].decode()} and cannot be activated")

    def unpin(self) -> int:
        """Make the newest ready version live, and later ones as they come; answers it (0: there is none)."""
        answer = self._switch(0)
        if isinstance(answer, list):
            raise AssertionError("unpinning names no version that could be unknown")
        return answer

    def mark_retired(self, version: int) -> None:
        """Note that a version's files go. Raises NotFound, and VersionUnusable for the live one."""
        before = self._stored(version)
        retired = replace(VersionRecord.from_json(before), state="retired")
        answer = self._database.call(
            "replace_record", [self._keys.state, self._keys.versions], [version, before, retired.to_json()]
        )
        if answer != b"OK":
            raise VersionUnusable(f"version {version} cannot be retired: it is {answer.decode().lower()}")

    def discard(self, version: int, reason: str) -> int:
        """Give a ready version up; answers the newest that is left (0: none), which the next step starts from.

        It stays active until another is, for servers that have it in memory, but is not pinned any more. Raises
        NotFound, and VersionUnusable for one that is not ready.
        """
        while True:
            before = self._stored(version)
            record = VersionRecord.from_json(before)
            if record.state != "ready":
                raise VersionUnusable(f"version {version} is {record.state} and cannot be given up")
            given_up = replace(record, state="retired", reason=reason)
            keys = [self._keys.state, self._keys.versions]
            answer = self._database.call("discard", keys, [version, before, given_up.to_json()])
            if answer != b"CHANGED":
                return int(answer)

    def _stored(self, number: int) -> bytes:
        """A record as it is, for a script to compare with. Raises NotFound."""
        with reachable():
            stored: bytes | None = self._database.client.hget(self._keys.versions, str(number))
        if stored is None:
            raise NotFound("version", str(number))
        return stored

    def _switch(self, version: int) -> int | list[bytes]:
        keys = [self._keys.state, self._keys.versions, self._keys.events]
        answer: int | list[bytes] = self._database.call("activate", keys, [version])
        return answer
