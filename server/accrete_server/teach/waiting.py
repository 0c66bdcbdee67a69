"""WaitLearned: until this server answers from a version that has learned the given examples."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import grpc

from accrete_server.errors import ShuttingDown, Unknown
from accrete_server.store_connection import StoreLink
from accrete_server.versions.slots import Slots, View
from accrete_storage.errors import StoreUnavailable
from accrete_storage.examples.ids import position_key
from accrete_storage.examples.pending import Location

_LOOK_S = 1.0  # how often a waiting call looks whether its caller is gone


@dataclass(frozen=True, kw_only=True)
class Waited:
    """What became of the examples by the end of the wait."""

    version: int
    waiting: tuple[str, ...]


def wait_learned(
    link: StoreLink, slots: Slots, ids: Sequence[str], timeout_s: float, context: grpc.ServicerContext
) -> Waited:
    """Waits until the live view has learned all of `ids`, `timeout_s` has passed or the caller's deadline is near.

    Raises Unknown for ids that are not known, also when they are deleted meanwhile; StoreUnavailable; ShuttingDown.
    """
    places = _locate(link, ids)
    until = time.monotonic() + timeout_s
    context.add_callback(slots.wake)
    view = slots.live
    while True:
        waiting = tuple(example_id for example_id in ids if not _has_learned(view, places[example_id]))
        left = until - time.monotonic()
        if not waiting or left <= 0 or not context.is_active():
            return Waited(version=0 if view is None else view.version, waiting=waiting)
        if slots.closed:
            raise ShuttingDown("the server is shutting down; wait again")
        before, view = view, slots.wait_change(view, min(left, _LOOK_S))
        if _deletions(before) != _deletions(view):
            places = _locate_again(link, ids, places)


def _locate(link: StoreLink, ids: Sequence[str]) -> Mapping[str, Location]:
    places = link.get().pending.locate(ids)
    missing = [example_id for example_id in ids if example_id not in places]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise Unknown(f"id: {missing[0]!r}{more} never added, deleted, or too long ago to be remembered")
    return places


def _locate_again(link: StoreLink, ids: Sequence[str], places: Mapping[str, Location]) -> Mapping[str, Location]:
    """The places after something was deleted; those known before while the store does not answer."""
    try:
        return _locate(link, ids)
    except StoreUnavailable:
        return places


def _deletions(view: View | None) -> int:
    return 0 if view is None else view.revision


def _has_learned(view: View | None, place: Location) -> bool:
    learned = None if view is None or place.in_review else view.learned.get(place.label)
    return learned is not None and position_key(learned) >= position_key(place.position)
