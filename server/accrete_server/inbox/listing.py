"""Pages of what is in the inbox."""

from __future__ import annotations

import base64
import binascii
import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from accrete.v1 import inbox_pb2, prediction_pb2
from accrete_server.errors import InvalidInput
from accrete_server.inbox import look
from accrete_server.inbox.pictures import shown
from accrete_server.store_connection import StoreConnection
from accrete_storage.inbox import Decision, Item
from accrete_storage.renames import Rename, called_now
from accrete_storage.store import Store

PAGE = 50
"""Items of a page when the caller names no number."""
MAX_PAGE = 200
MAX_SIDE = 1024

_Request = inbox_pb2.ListInboxRequest
_State = inbox_pb2.InboxItem

_STATES = {"open": _State.OPEN, "labelled": _State.LABELLED, "skipped": _State.SKIPPED}

Place = list[Any]
"""Where an item stands in its order; places compare."""

_log = logging.getLogger(__name__)


class Listing:
    """Puts what is kept in order, and cuts it into pages.

    A page goes on behind the place of the last item of the one before, so that what leaves meanwhile moves no other.
    """

    def __init__(self, connection: StoreConnection) -> None:
        self._connection = connection
        self._groups: tuple[frozenset[str], list[list[str]]] = (frozenset(), [])
        """The last groups by look, and the images that they are of."""

    def page(self, request: _Request) -> inbox_pb2.ListInboxResponse:
        """Return a page.

        Raises:
            InvalidInput: the request names what there is not.
            StorageError: the store does not answer.
        """
        state = request.state or _State.OPEN
        order = request.order or _Request.DOUBT
        if state not in _STATES.values():
            raise InvalidInput(f"state: {state}; 1 (OPEN), 2 (LABELLED) and 3 (SKIPPED) are allowed")
        if order not in (_Request.DOUBT, _Request.NEWEST, _Request.LOOK):
            raise InvalidInput(f"order: {order}; 1 (DOUBT), 2 (NEWEST) and 3 (LOOK) are allowed")
        if not 0 <= request.page_size <= MAX_PAGE:
            raise InvalidInput(f"page_size: {request.page_size}; 1 to {MAX_PAGE} are allowed, or 0 for {PAGE}")
        check_side(request.max_side)
        after = _place(request.page_token)

        store = self._connection.store()
        doubts = store.inbox.open()
        decisions: Mapping[str, Decision] = {}
        numbers: Mapping[str, int] = {}
        if state == _State.OPEN and order == _Request.LOOK:
            places, numbers = self._by_look(doubts, store)
        elif state == _State.OPEN:
            places = _by_doubt(doubts) if order == _Request.DOUBT else {one: [_reversed(one)] for one in doubts}
        else:
            decisions = store.inbox.decisions()
            places = {one: [-what.time_ms, one] for one, what in decisions.items() if _STATES[what.state] == state}
        try:
            following = sorted((place, one) for one, place in places.items() if after is None or place > after)
        except TypeError as error:  # of another order
            raise InvalidInput("page_token: of another order or state") from error
        size = request.page_size or PAGE
        ids = [one for _, one in following[:size]]
        return inbox_pb2.ListInboxResponse(
            items=self._items(store, ids, decisions, numbers, request.max_side),
            next_page_token=_token(following[size - 1][0]) if len(following) > size else "",
            open=len(doubts),
        )

    def _by_look(self, doubts: Mapping[str, float], store: Store) -> tuple[dict[str, Place], dict[str, int]]:
        """Return the places of open images, and the numbers of their groups."""
        compared = sorted(doubts, key=lambda one: (-doubts[one], one))[: look.MOST]
        if self._groups[0] != frozenset(compared):
            spaces = {one: item.space for one, item in store.inbox.items(compared).items()}
            self._groups = frozenset(compared), look.groups(store.inbox.features(compared), spaces)
        places: dict[str, Place] = {one: [0, "", one] for one in doubts}
        numbers = {}
        for number, group in enumerate(self._groups[1], 1):
            for one in group:
                places[one], numbers[one] = [-len(group), group[0], one], number
        return places, numbers

    def _items(
        self,
        store: Store,
        ids: Sequence[str],
        decisions: Mapping[str, Decision],
        numbers: Mapping[str, int],
        max_side: int,
    ) -> list[inbox_pb2.InboxItem]:
        items = store.inbox.items(ids)
        images = store.inbox.images(ids) if max_side else {}
        forgotten, renames = store.registry.forgotten(), store.registry.renames(0)
        places = store.pending.locate(one for one in ids if one in decisions)
        made = []
        for item in (items[one] for one in ids if one in items):
            renamed = [rename for rename in renames if rename.revision > item.revision]
            message = _message(item, decisions.get(item.id), forgotten, renamed)
            if item.id in places and message.label:
                message.label = places[item.id].label  # which may have been renamed since
            message.group = numbers.get(item.id, 0)
            if item.id in images:
                _show(message, images[item.id], max_side)
            made.append(message)
        return made


def check_side(max_side: int) -> None:
    """Check how large an image may be. Raises InvalidInput."""
    if not 0 <= max_side <= MAX_SIDE:
        raise InvalidInput(f"max_side: {max_side}; 0 to {MAX_SIDE} are allowed")


def _message(
    item: Item, decision: Decision | None, forgotten: Mapping[str, int], renamed: Sequence[Rename]
) -> inbox_pb2.InboxItem:
    """Return an item on the wire, its labels by what they are called after some renames."""
    ranked: dict[str, prediction_pb2.RankedLabel] = {}
    for one in item.labels:
        label = called_now(one.label, renamed)
        if forgotten.get(label, -1) <= item.revision:
            known = ranked.setdefault(label, prediction_pb2.RankedLabel(label=label, provisional=one.provisional))
            known.probability += one.probability  # two may be one class by now
    message = inbox_pb2.InboxItem(
        id=item.id,
        time_ms=item.time_ms,
        version=item.version,
        labels=sorted(ranked.values(), key=lambda one: -one.probability),
        unknown=item.unknown,
        why=item.why,
        principal=item.principal,
        state=_STATES[decision.state if decision else "open"],
        media_type=item.media_type,
        doubt=item.doubt,
    )
    if decision is not None:
        message.label, message.by, message.decided_ms = decision.label, decision.by, decision.time_ms
    return message


def _show(message: inbox_pb2.InboxItem, image: bytes, max_side: int) -> None:
    try:
        message.image, message.media_type = shown(image, message.media_type, max_side)
    except Exception as error:  # decoders raise whatever a damaged file leads them to; the page has the others
        _log.warning("inbox.corrupt_image", extra={"id": message.id, "reason": str(error)})


def _by_doubt(doubts: Mapping[str, float]) -> dict[str, Place]:
    return {one: [-doubt, one] for one, doubt in doubts.items()}


def _reversed(item_id: str) -> list[int]:
    """Return a place by which later ids come first."""
    return [-ord(character) for character in item_id]


def _token(place: Place) -> str:
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode()


def _place(token: str) -> Place | None:
    """Return the place that a token names. Raises InvalidInput."""
    if not token:
        return None
    try:
        place = json.loads(base64.urlsafe_b64decode(token.encode()))
        if not isinstance(place, list):
            raise TypeError("no list")
    except (ValueError, TypeError, binascii.Error) as error:
        raise InvalidInput("page_token: not one that a page named") from error
    return place
