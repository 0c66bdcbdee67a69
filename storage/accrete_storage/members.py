"""The servers that can be reached now, each of which tells of itself again and again."""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Literal

from accrete_storage.redis.database import Database
from accrete_storage.redis.keys import Keys

_log = logging.getLogger(__name__)

MemberState = Literal["serving", "draining"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """A server, as it told of itself last."""

    id: str
    """Of this run of the process."""
    address: str
    """"HOST:PORT" at which clients reach it."""
    started_ms: int
    """Milliseconds since 1970, by its own clock."""
    release: str
    """Of the software."""
    version: int
    """Of the model that it answers from; 0: none yet."""
    state: MemberState
    busyness: float
    """Share of its turns to predict that were busy since it told last, 0 to 1."""


_FIELDS = frozenset(field.name for field in fields(Member))


@dataclass(frozen=True, kw_only=True, slots=True)
class Roster:
    """Who is a member."""

    revision: int
    """Grows whenever a member comes, goes or begins to drain."""
    members: Sequence[Member]
    """By address."""


class Members:
    """Members with a time to live, by the store's clock."""

    def __init__(self, database: Database, keys: Keys) -> None:
        self._database = database
        self._keys = keys

    def tell(self, member: Member, ttl_s: float) -> Roster:
        """Tell of a member, which is one for so many seconds, and return all members."""
        worth = f"{member.state} {member.address}"
        return self._call(member.id, max(1, round(ttl_s * 1000)), worth, json.dumps(asdict(member)))

    def remove(self, member_id: str) -> None:
        """Remove a member, if it is one."""
        self._call(member_id, 0, "", "")

    def roster(self) -> Roster:
        """Return who is a member."""
        return self._call("", 0, "", "")

    def _call(self, member_id: str, ttl_ms: int, worth: str, member: str) -> Roster:
        revision, found = self._database.call("members", [self._keys.members], [member_id, ttl_ms, worth, member])
        members = [member for member in map(_read, found) if member is not None]
        return Roster(revision=int(revision), members=sorted(members, key=lambda one: (one.address, one.id)))


def _read(text: bytes) -> Member | None:
    """Return a member, of which another release may tell more; None for one that tells too little."""
    try:
        return Member(**{name: value for name, value in json.loads(text).items() if name in _FIELDS})
    except (ValueError, TypeError, AttributeError) as error:
        _log.warning("member.unreadable", extra={"reason": str(error)})
        return None
