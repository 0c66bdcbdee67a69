"""This server as a member: it tells the store of itself, and hears from there who the others are."""

from __future__ import annotations

import ipaddress
import logging
import re
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from importlib import metadata

from accrete.v1 import operation_pb2
from accrete_kit.periodic import PeriodicTask
from accrete_server.store_connection import StoreConnection
from accrete_server.versions.slots import Slots
from accrete_storage.errors import StorageError
from accrete_storage.members import Member, MemberState, Roster

TELL_S = 2.0
"""Seconds between two times that a member tells of itself, while there are few."""
TOLD_A_SECOND = 50
"""Times in a second that the store is told, at most: of many members each tells less often."""
MISSED = 3
"""Times that a member may miss before it is one no longer."""
SERVERS_KEY = "accrete-servers"
"""Metadata of each answer of a member: its state, and the version and revision that it answers from."""

_LEAVING_S = 1.0
"""Seconds that a server which stops waits for a store that does not answer."""
_STATES: Mapping[MemberState, operation_pb2.ServerInfo.State.ValueType] = {
    "serving": operation_pb2.ServerInfo.SERVING,
    "draining": operation_pb2.ServerInfo.DRAINING,
}
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?\.?")

_log = logging.getLogger(__name__)


def advertised(advertise: str, port: int) -> str:
    """Return the "host:port" that `server.advertise` means.

    Args:
        advertise: the setting.
        port: what is listened at, for one without a port.

    Raises:
        ValueError: it is no host, with a port or without.
    """
    host, given = advertise, ""
    if not _is_host(advertise):
        host, _, given = advertise.rpartition(":")
    if not _is_host(host) or (given and not (given.isascii() and given.isdecimal() and int(given) < 65_536)):
        raise ValueError(
            f'server.advertise = "{advertise}": a host, or host:port, is allowed (an IPv6 address in brackets)'
        )
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    return f"{host}:{int(given or 0) or port}"


def names_no_port(advertise: str) -> bool:
    """Return whether `server.advertise` leaves the port to the server."""
    return advertised(advertise, 1) != advertised(advertise, 2)


def _is_host(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        return len(text) < 256 and _NAME.fullmatch(text) is not None
    # 0.0.0.0 and :: are where a server listens, and no place to go to.
    return not address.is_unspecified and (address.version == 6 or "[" not in text)


class Membership:
    """Tell of this server again and again from `start` to `stop`, and keep what the store says of all.

    While the store is away, what it said last stands. Without an address this server is no member and does nothing.
    """

    def __init__(self, advertise: str, connection: StoreConnection, slots: Slots, busy_s: Callable[[], float]) -> None:
        """Tell of nothing yet.

        Args:
            advertise: the setting `server.advertise`.
            connection: to the store.
            slots: of the version that is told.
            busy_s: returns the seconds that a turn to predict has been busy since the server began, on average.

        Raises:
            ValueError: `advertise` is no address.
        """
        if advertise:
            advertised(advertise, 1)
        self._advertise = advertise
        self._connection = connection
        self._slots = slots
        self._busy_s = busy_s
        self._id = uuid.uuid4().hex
        self._address = ""
        self._started_ms = 0
        self._state: MemberState = "serving"
        self._began = False
        self._busyness = 0.0
        self._told = (time.monotonic(), 0.0)
        self._roster = Roster(revision=0, members=())
        self._missed = False
        self._telling = threading.Lock()
        self._task = PeriodicTask("membership", self._tell_and_wait, every_s=0, expected=StorageError)

    @property
    def members(self) -> int:
        """How many members this server knows of."""
        return len(self._roster.members)

    def trailers(self) -> tuple[tuple[str, str], ...]:
        """Return metadata of an answer, by which clients know that they may ask who the members are."""
        if not self._began:
            return ()
        live = self._slots.live
        version, revision = (0, 0) if live is None else (live.version, live.revision)
        return ((SERVERS_KEY, f"{self._state} {version} {revision}"),)

    def start(self, port: int) -> None:
        """Become a member, which is reached at `port` if the setting names none.

        A store that does not answer is told as soon as it does.
        """
        if not self._advertise:
            return
        self._address = advertised(self._advertise, port)
        self._started_ms = int(time.time() * 1000)
        self._roster = Roster(revision=0, members=(self._self(),))
        self._began = True
        try:
            self._tell()
        except StorageError as error:
            _log.warning("membership.not_told", extra={"reason": str(error)})
        self._task.start()
        _log.info("membership.began", extra={"address": self._address, "members": self.members})

    def drain(self) -> None:
        """Say that this server is about to stop."""
        if not self._advertise:
            return
        self._state = "draining"
        self._at_most_a_moment(self._tell)

    def stop(self) -> None:
        """Be no member any more. What a store that is away is not told, expires there."""
        if not self._advertise:
            return
        self._task.stop(_LEAVING_S)
        self._at_most_a_moment(lambda: self._connection.store().members.remove(self._id))

    def response(self) -> operation_pb2.ListServersResponse:
        """Return who the members are, as of the last time that this server told of itself."""
        roster = self._roster
        return operation_pb2.ListServersResponse(
            servers=map(_info, roster.members), self=self._id if self._advertise else "", revision=roster.revision
        )

    def _tell_and_wait(self) -> None:
        self._task.wait(self._every_s())
        if not self._task.stopping:
            self._tell()

    def _every_s(self) -> float:
        return max(TELL_S, self.members / TOLD_A_SECOND)

    def _tell(self) -> None:
        """Tell of this server, and take what the store says of all.

        After an outage all members have expired and tell of themselves anew, each in its time. Until then what was
        known before stands, or callers would all run to the first.

        Raises:
            StorageError: the store does not answer.
        """
        with self._telling:
            self._measure()
            try:
                roster = self._connection.connect().members.tell(self._self(), MISSED * self._every_s())
            except StorageError:
                self._missed = True
                raise
            missed, self._missed = self._missed, False
            if not missed or self._roster.revision == 0:
                self._roster = roster

    def _measure(self) -> None:
        (before, busy_before), now = self._told, (time.monotonic(), self._busy_s())
        self._told = now
        if now[0] > before:
            self._busyness = min(1.0, max(0.0, (now[1] - busy_before) / (now[0] - before)))

    def _self(self) -> Member:
        return Member(
            id=self._id,
            address=self._address,
            started_ms=self._started_ms,
            release=metadata.version("accrete"),
            version=self._slots.version,
            state=self._state,
            busyness=round(self._busyness, 3),
        )

    @staticmethod
    def _at_most_a_moment(work: Callable[[], object]) -> None:
        """Work, and wait for it no longer than a server that stops may wait for the store."""

        def attempt() -> None:
            try:
                work()
            except StorageError as error:
                _log.warning("membership.not_told", extra={"reason": str(error)})

        thread = threading.Thread(target=attempt, name="membership-leaving", daemon=True)
        thread.start()
        thread.join(_LEAVING_S)


def _info(member: Member) -> operation_pb2.ServerInfo:
    return operation_pb2.ServerInfo(
        id=member.id,
        address=member.address,
        started_ms=member.started_ms,
        release=member.release,
        version=member.version,
        state=_STATES.get(member.state, operation_pb2.ServerInfo.STATE_UNSPECIFIED),
        busyness=member.busyness,
    )
