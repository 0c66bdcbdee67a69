"""The wait of WaitLearned until this server answers from a version that has learned the given examples."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import grpc

from accrete_server.errors import ShuttingDown, Unknown
from accrete_server.store_connection import StoreConnection
from accrete_server.versions.slots import Slots, View
from accrete_storage.errors import StoreUnavailable
from accrete_storage.examples.ids import position_key
from accrete_storage.examples.pending import Location

_CHECK_S = 1.0  # how often a waiting call checks whether its caller is gone


@dataclass(frozen=True, kw_only=True)
class Waited:
    """What became of the examples by the end of the wait."""

    version: int
    """The live version; 0: none."""
    waiting: tuple[str, ...]
    """Ids that it has not learned."""


def wait_learned(
    connection: StoreConnection, slots: Slots, ids: Sequence[str], timeout_s: float, context: grpc.ServicerContext
) -> Waited:
    """Wait until the live view has learned all of `ids`, `timeout_s` has passed or the caller is gone.

    Raises:
        Unknown: an id is not known, or was deleted meanwhile.
        StoreUnavailable: the store does not answer.
        ShuttingDown: the server stops.
    """
    view = slots.live  # first, so that what changes from here on is seen as a change
    locations = _locate(connection, ids)
    until = time.monotonic() + timeout_s
    context.add_callback(slots.wake)
    while True:
        waiting = tuple(example_id for example_id in ids if not _has_learned(view, locations[example_id]))
        left = until - time.monotonic()
        if not waiting or left <= 0 or not context.is_active():
            return Waited(version=0 if view is None else view.version, waiting=waiting)
        if slots.closed:
            raise ShuttingDown("the server is shutting down; wait again")
        before, view = view, slots.wait_change(view, min(left, _CHECK_S))
        if _deletions(before) != _deletions(view):
            locations = _locate_again(connection, ids, locations)


def _locate(connection: StoreConnection, ids: Sequence[str]) -> Mapping[str, Location]:
    locations = connection.store().pending.locate(ids)
    missing = [example_id for example_id in ids if example_id not in locations]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise Unknown(f"id: {missing[0]!r}{more} never added, deleted, or too long ago to be remembered")
    return locations


def _locate_again(
    connection: StoreConnection, ids: Sequence[str], before: Mapping[str, Location]
) -> Mapping[str, Location]:
    """Return the locations after something was deleted, or those known before while the store does not answer."""
    try:
        return _locate(connection, ids)
    except StoreUnavailable:
        return before


def _deletions(view: View | None) -> int:
    return 0 if view is None else view.revision


def _has_learned(view: View | None, location: Location) -> bool:
    learned = None if view is None or location.in_review else view.learned.get(location.label)
    return learned is not None and position_key(learned) >= position_key(location.position)
