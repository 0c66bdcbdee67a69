"""When a cluster is whole again: all that is to run runs, and what is taught from then on is learned and served."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from accrete import AccreteError, Client
from accrete_storage.errors import StorageError
from benchmarks.cluster.place import LEARN, LEARNERS, SERVERS, Place
from benchmarks.cluster.strikes import tend

_LOOK_EVERY_S = 0.2
_TEND_EVERY_S = 5.0
_LIMIT_S = 240.0


@dataclass(frozen=True, kw_only=True)
class Whole:
    """What a cluster came to."""

    when: float
    """By `time.monotonic`; the time of the last look where it did not become whole."""
    lacks: str
    """What was missing to the end; empty when it is whole."""


def wait_whole(place: Place, image: object, before: int, limit_s: float = _LIMIT_S) -> Whole:
    """Wait until it is whole, or until `limit_s` have passed.

    Args:
        place: the cluster.
        image: to ask each server about.
        before: number of the version that was live when it was struck.
        limit_s: seconds to wait at most.
    """
    return _look(place, lambda: missing(place, image, before), limit_s)


def wait_apart(place: Place, limit_s: float) -> None:
    """Wait until there are as many servers as there are to be, each on a node of its own.

    Raises:
        TimeoutError: `limit_s` have passed.
    """
    lacks = _look(place, lambda: _amiss(place.members(), apart=True), limit_s).lacks
    if lacks:
        raise TimeoutError(f"not on a node each within {limit_s:g} s: {lacks}")


def _look(place: Place, lacking: Callable[[], str], limit_s: float) -> Whole:
    """Look again and again, and start Ray where it has ended, until nothing is lacking or `limit_s` have passed."""
    began = tended = time.monotonic()
    while True:
        if time.monotonic() > tended + _TEND_EVERY_S:
            tend(place)
            tended = time.monotonic()
        lacks = lacking()
        now = time.monotonic()
        if not lacks or now > began + limit_s:
            return Whole(when=now, lacks=lacks)
        time.sleep(_LOOK_EVERY_S)


def missing(place: Place, image: object, before: int) -> str:
    """Return what is missing for it to be whole, nothing when it is."""
    try:
        members = place.members()
        leader = place.leader()
        # The first step may have begun before the strike. What the next one learns was taught after it.
        live = place.store.registry.state().version
    except StorageError as error:
        return str(error)
    if amiss := _amiss(members):
        return amiss
    learners = sum(bool(node.pids(LEARN)) for node in place.nodes)
    if learners != min(LEARNERS, len(place.nodes)):  # each takes a node of its own
        return f"{learners} nodes have a learner"
    if leader is None:
        return "no learner has the lease"
    if live < before + 2:
        return f"version {before} was live, and {live} is"
    for address in members:
        try:
            with Client(address, timeout=2.0, retry=None) as client:
                version = client.predict(image).version  # type: ignore[call-overload]
        except AccreteError as error:
            return f"{address}: {error}"
        if version < before + 2:
            return f"{address} answers from {version}"
    return ""


def _amiss(members: Mapping[str, str], *, apart: bool = False) -> str:
    """Return what the servers are where they are not all there and serving (`apart`: each on a node of its own)."""
    nodes = {address.rpartition(":")[0] for address in members}
    well = list(members.values()) == ["serving"] * SERVERS and (len(nodes) == SERVERS or not apart)
    return "" if well else f"the servers are {dict(members)}"
