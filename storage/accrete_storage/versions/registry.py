"""The registry of every version's record, and of which one is live."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from accrete_storage.errors import Fenced, NotFound, VersionUnusable
from accrete_storage.redis.database import Database, reachable
from accrete_storage.redis.keys import Keys
from accrete_storage.renames import Rename, read_renames
from accrete_storage.versions.record import VersionRecord


@dataclass(frozen=True, kw_only=True, slots=True)
class ActiveState:
    """What is live."""

    version: int
    """0 when there is none yet."""
    pinned: bool
    revision: int
    """Grows with every deletion and every class forgotten, renamed or merged."""
    renamed: int = 0
    """The revision that the last renaming or merge made."""


class Registry:
    """Records of versions, and the active one."""

    def __init__(self, database: Database, keys: Keys) -> None:
        self._database = database
        self._keys = keys
        self._newest: tuple[tuple[bytes, bytes | None], VersionRecord] | None = None
        """The newest version that passed the gate, by its number and the revision; replaced as a whole, for several
        threads read it."""

    def versions(self) -> list[VersionRecord]:
        """Return all records, oldest first."""
        with reachable():
            stored = self._database.client.hvals(self._keys.versions)
        return sorted(map(VersionRecord.from_json, stored), key=lambda record: record.version)

    def version(self, number: int) -> VersionRecord:
        """Return one record.

        Raises:
            NotFound: there is no such version.
        """
        return VersionRecord.from_json(self._stored(number))

    def next_version(self) -> int:
        """Return one more than the greatest number that a record has, those of rejected versions included."""
        with reachable():
            numbers = self._database.client.hkeys(self._keys.versions)
        return 1 + max(map(int, numbers), default=0)

    def reserve(self, epoch: int) -> int:
        """Reserve the number for a candidate, which no other learner uses, and return it.

        Raises:
            Fenced: another learner has the lease.
        """
        return self._number(epoch, reserve=True)

    def greatest_number(self, epoch: int) -> int:
        """Return the greatest number that is recorded or reserved; later learners use greater ones.

        Raises:
            Fenced: another learner has the lease.
        """
        return self._number(epoch, reserve=False)

    def _number(self, epoch: int, *, reserve: bool) -> int:
        number: int = self._database.call("reserve", [self._keys.state, self._keys.versions], [epoch, int(reserve)])
        if number < 0:
            raise Fenced(f"epoch {epoch} is over: another learner holds the lease")
        return number

    def latest_ready(self) -> VersionRecord | None:
        """Return the newest version that passed the gate, live or not, which is the parent of the next step.

        A learner asks ten times a second, and with ten thousand classes a record is a megabyte: it is read again once
        the number or the revision is another. While it is the newest, nothing but a new revision changes a record.
        """
        with reachable():
            latest, revision = self._database.client.hmget(self._keys.state, "latest", "revision")
        if latest is None:
            return None
        newest = self._newest
        if newest is None or newest[0] != (latest, revision):
            newest = self._newest = (latest, revision), self.version(int(latest))
        return newest[1]

    def state(self) -> ActiveState:
        """Return what is live now."""
        with reachable():
            names = ("active", "pinned", "revision", "renamed")
            active, pinned, revision, renamed = self._database.client.hmget(self._keys.state, *names)
        return ActiveState(
            version=int(active or 0),
            pinned=pinned == b"1",
            revision=int(revision or 0),
            renamed=int(renamed or 0),
        )

    def renames(self, after: int) -> list[Rename]:
        """Return the classes that were renamed or merged after a revision, oldest first."""
        renames, _ = read_renames(self._database, self._keys)
        return renames.after(after)

    def forgotten(self) -> dict[str, int]:
        """Return by label the revision at which it was forgotten; versions whose record has a smaller one mask it."""
        with reachable():
            stored = self._database.client.hgetall(self._keys.forgotten)
        return {label.decode(): int(revision) for label, revision in stored.items()}

    def activate(self, version: int) -> None:
        """Make a version live and pin it.

        Raises:
            NotFound: there is no such version.
            VersionUnusable: it is not ready.
        """
        if version < 1:
            raise NotFound("version", str(version))
        answer = self._switch(version)
        if isinstance(answer, list):
            if answer[0] == b"UNKNOWN":
                raise NotFound("version", str(version))
            raise VersionUnusable(f"version {version} is {answer[1].decode()} and cannot be activated")

    def unpin(self) -> int:
        """Make the newest ready version live, and later ones as they come; return its number, 0 when there is none."""
        answer = self._switch(0)
        if isinstance(answer, list):
            raise AssertionError("unpinning names no version that could be unknown")
        return answer

    def mark_retired(self, version: int) -> None:
        """Record that a version's files are removed.

        Raises:
            NotFound: there is no such version.
            VersionUnusable: it is live.
        """
        before = self._stored(version)
        retired = replace(VersionRecord.from_json(before), state="retired")
        keys = [self._keys.state, self._keys.versions, self._keys.judgements]
        answer = self._database.call("retire", keys, [version, before, retired.to_json()])
        if answer != b"OK":
            raise VersionUnusable(f"version {version} cannot be retired: it is {answer.decode().lower()}")

    def drop(self, numbers: Sequence[int]) -> None:
        """Remove the records of versions that are retired or rejected; nothing can make those live again."""
        if numbers:
            with reachable():
                self._database.client.hdel(self._keys.versions, *map(str, numbers))

    def discard(self, version: int, reason: str) -> int:
        """Give up a ready version, from which no next step will start.

        It stays active until another is, for servers that have it in memory, but is not pinned any more.

        Returns:
            The newest version that is left, from which the next step starts; 0 for none.

        Raises:
            NotFound: there is no such version.
            VersionUnusable: it is not ready.
        """
        while True:
            before = self._stored(version)
            record = VersionRecord.from_json(before)
            if record.state != "ready":
                raise VersionUnusable(f"version {version} is {record.state} and cannot be given up")
            given_up = replace(record, state="retired", reason=reason)
            keys = [self._keys.state, self._keys.versions, self._keys.judgements]
            answer = self._database.call("discard", keys, [version, before, given_up.to_json()])
            if answer != b"CHANGED":
                return int(answer)

    def _stored(self, number: int) -> bytes:
        """Return a record's bytes, for a script to compare with; raise NotFound without one."""
        with reachable():
            stored: bytes | None = self._database.client.hget(self._keys.versions, str(number))
        if stored is None:
            raise NotFound("version", str(number))
        return stored

    def _switch(self, version: int) -> int | list[bytes]:
        keys = [self._keys.state, self._keys.versions, self._keys.events]
        answer: int | list[bytes] = self._database.call("activate", keys, [version])
        return answer
