"""The servers that a client's calls are spread over, and which of them a call goes to.

A server that is a member of several (its setting `server.advertise`) says so with each answer. A client that hears it
asks who the members are, on a thread or task of its own, connects to them, and gives each call to the one with the
fewest calls of this client under way. One that does not advertise costs nothing more than a look at its answer's
metadata. The address that the client was given stays in use: while no member can be reached, and for its server while
that is not reached under its own address. While nobody at all is reached, everybody is asked in each round, also those
that were members before: one that could not tell the store of itself for a moment is no member, and yet serves.

Nothing here waits or sends: both transports do what it says.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from .._config import Endpoint
from .._errors import AccreteError, Cancelled, DeadlineExceeded, IncompatibleServer, Unavailable
from ..v1 import operation_pb2 as op
from .methods import (
    ACTIVATE_VERSION,
    DELETE_EXAMPLES,
    DISCARD_VERSION,
    FORGET_CLASS,
    GET_STATUS,
    HEALTH,
    LIST_SERVERS,
    MERGE_CLASSES,
    RENAME_CLASS,
    WAIT_LEARNED,
    Method,
)

SERVERS_KEY = "accrete-servers"
"""Trailing metadata of a member's answer: its state, version and revision."""
AFTER_KEY = "accrete-after"
"""Metadata of a call: the version and revision that the server that takes it is to have reached; "=": this version."""
ROUND_S = 2.0
"""Seconds between two looks at the members."""
ASK_S = 2.0
"""Seconds in which a server is to say who the members are."""
MOST = 16
"""Members that a client connects to; which ones of more, each client draws for itself."""

_OTHERS_S = 30.0
"""Seconds that a server which is no member is counted on after it answered at the address that was given."""
_IDLE = 3
"""Without calls, one round in so many is held: all servers may be replaced, one by one, before the next call."""
_SEVERAL = 4
"""Where several servers are at what was given, one round in so many asks there: one of them may be no member."""
_MISSES = 2
"""Times in a row that a server may leave that question open before the calls to it are made elsewhere."""
_SILENT = 3
"""Rounds in a row without an answer after which calls to several addresses are made to a member. One that hangs there
is not found out by the question, which another of them may answer."""
_FIRST_S, _LAST_S, _NEVER_S = 0.25, 2.0, 30.0
"""Seconds after which a server that failed is tried again: at first, at most, and at most if it was never reached."""
_HOME_FIRST = frozenset({GET_STATUS.path, HEALTH.path, LIST_SERVERS.path})
"""Calls about the server at the address that was given, as long as it can be reached."""
_SETTLING = frozenset(
    method.path
    for method in (WAIT_LEARNED, FORGET_CLASS, RENAME_CLASS, MERGE_CLASSES, DELETE_EXAMPLES, DISCARD_VERSION)
)
"""Calls after whose answer every server is to know what they did."""

Trailers = Iterable[tuple[str, str | bytes]]


class Lane:
    """A gRPC channel, of either interface, and the calls that were made on it before."""

    def __init__(self, channel: Any) -> None:
        self.channel = channel
        self.closed = False
        self._unary: dict[str, Any] = {}

    def unary(self, method: Method[Any, Any]) -> Any:
        """Return what makes calls of a method with one response."""
        call = self._unary.get(method.path)
        if call is None:
            call = self._unary[method.path] = self.channel.unary_unary(method.path, method.encode, method.decode)
        return call


@dataclass(slots=True, eq=False)
class Target:
    """A server as calls see it: the one at the address that was given (or several there), or a member."""

    address: str
    """Empty for several."""
    open: Callable[[], Any]
    """Opens a channel to it."""
    lane: Lane | None = None
    ids: frozenset[str] = frozenset()
    """Of the members at its address."""
    id: str = ""
    """Of the one that answers; empty: not known, or none."""
    reached: bool = False
    """Whether a member with the right id has answered there, and nothing has failed since."""
    draining: bool = False
    in_flight: int = 0
    answered: bool = False
    """Whether it has answered a call since the last round."""
    failures: int = 0
    """In a row."""
    misses: int = 0
    """Of them, those that were questions left open."""
    retry_at: float = 0.0
    settled: int = 0
    """The last requirement that it has met."""
    others_until: float = 0.0
    """Until when it is taken that no member also answers there: an address may stand for several servers."""


@dataclass(slots=True)
class _Required:
    """What every server is to have reached before it answers this client."""

    number: int = 0
    version: int = 0
    revision: int = 0
    exactly: bool = False


@dataclass(slots=True)
class _Round:
    """What is new since the last round."""

    used: bool = True
    idle: int = 0
    """Rounds in a row without a call."""
    silent: int = 0
    """Rounds in a row in which calls to several given addresses waited and none was answered."""
    turn: int = 0
    lanes: list[Lane] = field(default_factory=list)
    """To be closed."""


class Spread:
    """Chooses servers. Safe to use from several threads."""

    def __init__(self, endpoint: Endpoint, interface: Any, *, wanted: bool) -> None:
        """Know of the given address alone.

        Args:
            endpoint: of the client.
            interface: the module `grpc` or `grpc.aio`.
            wanted: whether to spread at all.
        """
        single = endpoint.addresses[0] if len(endpoint.addresses) == 1 else ""
        self.wanted = wanted
        self.began = False
        """Whether there are members to look after."""
        self._endpoint = endpoint
        self._interface = interface
        self._home = Target(address=single, open=lambda: endpoint.channel(interface), reached=True)
        self._members: dict[str, Target] = {}
        self._former: dict[str, Target] = {}
        self._usable: tuple[Target, ...] = (self._home,)
        self._lock = threading.Lock()
        self._turn = 0
        self._revision = -1
        self._required = _Required()
        self._round = _Round()
        self._salt = os.urandom(8)

    def take(self, path: str) -> Target:
        """Return the server for a call, which is to be given back."""
        with self._lock:
            usable = self._usable
            target = usable[0]
            if path in _HOME_FIRST and self._home.reached:
                target = self._home
            elif len(usable) > 1:
                self._turn += 1
                places = range(self._turn, self._turn + len(usable))
                target = min((usable[place % len(usable)] for place in places), key=_load)
            target.in_flight += 1
            self._round.used = True
        return target

    def give_back(self, target: Target) -> None:
        """Note that a call has ended."""
        with self._lock:
            target.in_flight -= 1

    def lane(self, target: Target) -> Lane:
        """Return the way to a server, opened at the first time."""
        with self._lock:
            if target.lane is None:
                target.lane = Lane(target.open())
            return target.lane

    def lanes(self) -> list[Lane]:
        """Return all that are open."""
        with self._lock:
            targets = [*self._all(), *self._former.values()]
            return [target.lane for target in targets if target.lane is not None] + self._round.lanes

    def metadata(self, target: Target) -> tuple[tuple[str, str | bytes], ...]:
        """Return the metadata of a call to a server."""
        required, given = self._required, self._endpoint.metadata
        if target.settled >= required.number:
            return given
        exactly = " =" if required.exactly else ""
        return (*given, (AFTER_KEY, f"{required.version} {required.revision}{exactly}"))

    def answer(self, target: Target, path: str, asked: int, trailers: Trailers | None) -> bool:
        """Take notice of an answer; return whether the members are to be looked after from now on.

        Args:
            target: who answered.
            path: of the call.
            asked: the number of what was required when the call began.
            trailers: the answer's trailing metadata.
        """
        told = _told(trailers)
        if told is None:
            return False
        state, version, revision = told
        with self._lock:
            target.answered = True
            target.settled = max(target.settled, asked)
            if target.failures:
                target.failures = target.misses = 0
                target.retry_at = 0.0
                target.reached = True
                self._rank()
            if state == "draining" and not target.draining:
                target.draining = True
                self._rank()
            if path in _SETTLING or path == ACTIVATE_VERSION.path:
                self._require(target, version, revision, exactly=path == ACTIVATE_VERSION.path)
            begin, self.began = not self.began, True
        return begin

    def required(self) -> int:
        """Return the number of what is required of servers now."""
        return self._required.number

    def fail(self, target: Target, lane: Lane, error: AccreteError, trailers: Trailers | None) -> AccreteError:
        """Take notice of a failed call, and return the error to raise."""
        if lane.closed and isinstance(error, Cancelled):  # by us: the server is no member any more, or is stuck
            error = Unavailable("the server is gone or stuck, and the call went no further")
            error.elsewhere = True
            return error
        told = _told(trailers)
        if told is not None and told[0] == "draining":
            with self._lock:
                target.draining = True
                self._rank()
                error.elsewhere = isinstance(error, Unavailable) and self._others(target)
        elif told is None and self.began and isinstance(error, Unavailable) and error.retry_after is None:
            with self._lock:
                self._down(target)
                error.elsewhere = self._others(target)
        return error

    def due(self) -> list[Target]:
        """Return the servers that are to be asked now who the members are, and begin a round."""
        now = time.monotonic()
        with self._lock:
            news, self._round.used = self._round.used, False
            self._round.idle = 0 if news else self._round.idle + 1
            lost = self._lost()
            asked = [target for target in self._all() if not target.reached and (lost or target.retry_at <= now)]
            if self._round.idle % _IDLE and not any(target.in_flight for target in self._all()):
                return []
            if lost:
                asked += self._former.values()
            else:
                for target in self._former.values():
                    self._drop(target)
            asked += [target for target in self._all() if target.reached and target.in_flight and not target.answered]
            self._leave_home()
            self._round.turn += 1
            several = not self._home.address and self._round.turn % _SEVERAL == 0
            ask_home = self._revision < 0 or several
            polled = self._home if ask_home else self._usable[self._round.turn % len(self._usable)]
            for target in self._all():
                target.answered = False
            return list(dict.fromkeys([*asked, polled]))

    def new(self) -> list[Target]:
        """Return the members that nobody has asked yet."""
        with self._lock:
            return [target for target in self._members.values() if not target.reached and not target.failures]

    def heard(self, target: Target, response: op.ListServersResponse) -> None:
        """Take notice of who the members are, as a server says."""
        with self._lock:
            if target is not self._home and response.self not in target.ids:
                self._down(target)  # another server is there, behind an address that is translated perhaps
                return
            if self._former.pop(target.address, None) is not None:
                self._members[target.address] = target
            if not response.self:
                target.others_until = time.monotonic() + _OTHERS_S
            if target.id != response.self:
                target.id, target.draining = response.self, False
            target.reached, target.failures, target.misses, target.retry_at = True, 0, 0, 0.0
            if response.self and response.revision >= self._revision:
                self._revision = response.revision
                self._update(response.servers)
            self._rank()

    def missed(self, target: Target, error: AccreteError) -> None:
        """Take notice of a server that did not say who the members are."""
        with self._lock:
            if target is self._home and not isinstance(error, Unavailable | DeadlineExceeded | Cancelled):
                if isinstance(error, IncompatibleServer):  # of an earlier release, and so no member
                    target.id, target.others_until = "", time.monotonic() + _OTHERS_S
                target.reached, target.failures, target.misses, target.retry_at = True, 0, 0, 0.0
                self._rank()
                return
            if target.answered:  # it has other things to do
                return
            self._down(target)
            target.misses = target.misses + 1 if isinstance(error, DeadlineExceeded) else 0
            if target.misses >= _MISSES and target.lane is not None and self._others(target):
                target.misses = 0
                self._drop(target)

    def suspects(self) -> bool:
        """Return whether a server that calls wait for is to be asked once more, before these are made elsewhere."""
        with self._lock:
            return any(target.misses and target.in_flight for target in self._all())

    def dropped(self) -> list[Lane]:
        """Return the lanes to close, whose calls are then made elsewhere."""
        with self._lock:
            lanes, self._round.lanes = self._round.lanes, []
        return lanes

    def _all(self) -> list[Target]:
        return [self._home, *self._members.values()]

    def _lost(self) -> bool:
        return not any(target.reached for target in self._all())

    def _others(self, target: Target) -> bool:
        return any(other is not target and other.reached for other in self._usable)

    def _down(self, target: Target) -> None:
        target.reached = False
        target.failures += 1
        last_s = _LAST_S if target.id or target is self._home else _NEVER_S
        target.retry_at = time.monotonic() + min(last_s, _FIRST_S * 2.0 ** min(target.failures - 1, 16))
        if target is not self._home and target.id and target.id == self._home.id and self._home.reached:
            self._down(self._home)  # the same server answered there: calls would wait for it once more
        self._rank()

    def _leave_home(self) -> None:
        """Have calls that hang at one of several addresses made elsewhere, once there is a server to make them to."""
        home = self._home
        self._round.silent = self._round.silent + 1 if home.in_flight and not home.answered else 0
        if self._round.silent >= _SILENT and not home.address and home not in self._usable and self._others(home):
            self._round.silent = 0
            self._drop(home)

    def _drop(self, target: Target) -> None:
        if target.lane is not None:
            target.lane.closed = True
            self._round.lanes.append(target.lane)
            target.lane = None

    def _rank(self) -> None:
        """Choose the servers that calls go to."""
        home, members = self._home, list(self._members.values())
        direct = {target.id for target in members if target.reached}
        reached = [target for target in members if target.reached]
        if home.reached and (home.id not in direct or time.monotonic() < home.others_until):
            reached.append(home)
        staying = [target for target in reached if not target.draining]
        known = [home, *(target for target in members if target.id)]
        self._usable = tuple(staying or reached or known)

    def _update(self, servers: Sequence[op.ServerInfo]) -> None:
        ids: dict[str, set[str]] = {}
        draining = {one.id for one in servers if one.state == op.ServerInfo.DRAINING}
        for one in servers:
            if one.address != self._home.address and self._endpoint.admits(one.address):
                ids.setdefault(one.address, set()).add(one.id)
        drawn = sorted(ids, key=self._draw)[:MOST]
        for address in [address for address in self._members if address not in drawn]:
            gone = self._members.pop(address)
            self._drop(gone)
            if gone.id:
                gone.reached, gone.failures, gone.retry_at = False, 0, 0.0
                self._former[address] = gone
        for address in drawn:
            target = self._members.get(address) or self._former.pop(address, None)
            if target is None:
                target = Target(address=address, open=self._opener(address))
            self._members[address] = target
            target.ids = frozenset(ids[address])
            if target.id and target.id not in target.ids:  # started again: another process is there
                target.id, target.draining, target.reached, target.failures, target.retry_at = "", False, False, 0, 0.0
        while len(self._former) > MOST:
            self._drop(self._former.pop(next(iter(self._former))))
        for target in self._all():
            target.draining = target.draining or target.id in draining

    def _opener(self, address: str) -> Callable[[], Any]:
        return lambda: self._endpoint.at(address).channel(self._interface)

    def _draw(self, address: str) -> bytes:
        return hashlib.blake2b(address.encode(), key=self._salt, digest_size=8).digest()

    def _require(self, target: Target, version: int, revision: int, *, exactly: bool) -> None:
        """Require of all servers what one has reached; `exactly` that version, by a call that may take it back."""
        before = self._required
        if not exactly:
            version = max(version, before.version)
        revision = max(revision, before.revision)
        number = before.number + 1
        self._required = _Required(number=number, version=version, revision=revision, exactly=exactly)
        target.settled = number


def _load(target: Target) -> int:
    """Return what is compared. Those that fail, which are in line where no other is left, end a call the soonest."""
    return target.in_flight if target.reached else 0


def _told(trailers: Trailers | None) -> tuple[str, int, int] | None:
    """Return state, version and revision of the member that answered; None for a server that is none."""
    for key, value in trailers or ():
        if key == SERVERS_KEY:
            words = [*str(value).split(" "), "", ""]
            version, revision = (int(word) if word.isdecimal() else 0 for word in words[1:3])
            return words[0], version, revision
    return None


class Asking(Protocol):
    """What looks after the members by a transport."""

    async def ask(self, targets: Sequence[Target], timeout_s: float) -> list[op.ListServersResponse | AccreteError]:
        """Ask servers who the members are, all at the same time, and return each one's answer or error."""

    async def close_lane(self, lane: Lane) -> None:
        """End all calls of a lane."""


async def one_round(spread: Spread, transport: Asking) -> float:
    """Ask who the members are and which of them answer, and drop those that are gone or stuck.

    Returns:
        The seconds until the next round.
    """
    targets = spread.due()
    while targets:
        for target, answer in zip(targets, await transport.ask(targets, ASK_S), strict=True):
            if isinstance(answer, AccreteError):
                spread.missed(target, answer)
            else:
                spread.heard(target, answer)
        for lane in spread.dropped():
            await transport.close_lane(lane)
        targets = spread.new()
    return _FIRST_S if spread.suspects() else ROUND_S
