"""Pages of a label's stored examples."""

from __future__ import annotations

from collections.abc import Iterable
from heapq import nsmallest

import numpy as np

from accrete.v1 import curation_pb2
from accrete_server.curate.pictures import picture
from accrete_server.errors import InvalidInput, Unknown
from accrete_storage.errors import CorruptRecord
from accrete_storage.examples.listing import KINDS, Kind, ListedExample, Place
from accrete_storage.store import Store

MAX_PAGE = 200
DEFAULT_PAGE = 50
MAX_SIDE = 1024
"""Pixels of a picture's longest side, at most."""

_EXEMPLARS: tuple[Kind, ...] = ("exemplars",)
_Message = curation_pb2.StoredExample
_KINDS: dict[int, tuple[Kind, ...]] = {
    _Message.KIND_UNSPECIFIED: KINDS,
    _Message.EXEMPLARS: _EXEMPLARS,
    _Message.HOLDOUT: ("holdout",),
    _Message.PENDING: ("pending",),
    _Message.REVIEW: ("review",),
}
_NUMBERS: dict[Kind, curation_pb2.StoredExample.Kind.ValueType] = {
    "exemplars": _Message.EXEMPLARS,
    "holdout": _Message.HOLDOUT,
    "pending": _Message.PENDING,
    "review": _Message.REVIEW,
}


def page(store: Store, request: curation_pb2.ListExamplesRequest, max_bytes: int) -> curation_pb2.ListExamplesResponse:
    """Return a page of a label's examples.

    Args:
        store: to read.
        request: whose label was checked.
        max_bytes: of the pictures together, beyond which the page ends.

    Raises:
        InvalidInput: the request cannot be used.
        Unknown: there is no such label.
        StoreUnavailable: the store does not answer.
    """
    kinds, size, after = _checked(request)
    counts = store.listing.counts(request.label)
    if not any(counts.values()):
        _check_known(store, request.label)
    found: Iterable[ListedExample]
    if request.nearest_to:
        total = sum(counts[kind] for kind in kinds)
        found = _nearest(store, request, size)
    elif request.ids:
        every = store.listing.find(request.label, request.ids, kinds)
        total = len(every)
        found = [one for one in every if after is None or one.place.order > after.order]
    else:
        total = sum(counts[kind] for kind in kinds)
        found = store.listing.read(request.label, kinds, after)
    response = curation_pb2.ListExamplesResponse(total=total)
    last, pictured = "", 0
    for one in found:
        if len(response.examples) == size or pictured >= max_bytes:
            response.next_page_token = "" if request.nearest_to else last
            break
        message = _message(one, request.label, request.max_side)
        response.examples.append(message)
        last, pictured = str(one.place), pictured + len(message.image)
    return response


def _checked(request: curation_pb2.ListExamplesRequest) -> tuple[tuple[Kind, ...], int, Place | None]:
    """Return the kinds, the size and the beginning of the page."""
    if request.kind not in _KINDS:
        raise InvalidInput(f"kind: {request.kind}; EXEMPLARS, HOLDOUT, PENDING, REVIEW or none are allowed")
    if not 0 <= request.page_size <= MAX_PAGE:
        raise InvalidInput(f"page_size: {request.page_size}; 1 to {MAX_PAGE}, or 0 for {DEFAULT_PAGE}, are allowed")
    if not 0 <= request.max_side <= MAX_SIDE:
        raise InvalidInput(f"max_side: {request.max_side}; 0 to {MAX_SIDE} are allowed")
    if len(request.ids) > MAX_PAGE:
        raise InvalidInput(f"ids: {len(request.ids)}; at most {MAX_PAGE} are allowed")
    if request.nearest_to and (request.kind != _Message.EXEMPLARS or request.ids or request.page_token):
        raise InvalidInput("nearest_to: goes with the kind EXEMPLARS alone, and neither with ids nor with page_token")
    if not np.isfinite(request.nearest_to).all():
        raise InvalidInput("nearest_to: values that are not finite (NaN or infinity)")
    kinds = _KINDS[request.kind]
    try:
        after = Place.parse(request.page_token) if request.page_token else None
    except ValueError:
        raise InvalidInput("page_token: not one that the page before gave") from None
    if after is not None and after.kind not in kinds:
        raise InvalidInput("page_token: of a page of another kind")
    return kinds, request.page_size or DEFAULT_PAGE, after


def _nearest(store: Store, request: curation_pb2.ListExamplesRequest, size: int) -> list[ListedExample]:
    """Return the exemplars most like a feature vector, the most alike first, as many as a page has."""
    alike = store.features.nearest(request.label, np.array(request.nearest_to, np.float32))
    place = {name: number for number, name in enumerate(alike)}
    exemplars = (one for one in store.listing.read(request.label, _EXEMPLARS) if one.id)
    return nsmallest(size, exemplars, key=lambda one: place.get(one.id, len(place)))


def _check_known(store: Store, label: str) -> None:
    latest = store.registry.latest_ready()
    if latest is None or label not in latest.kept_labels(store.registry.forgotten()):
        raise Unknown(f"no such label: {label}")


def _message(one: ListedExample, label: str, max_side: int) -> curation_pb2.StoredExample:
    message = _Message(id=one.id, label=label, kind=_NUMBERS[one.place.kind], rank=one.rank, damage=one.damage)
    if one.reason:
        message.reasons.append(one.reason)
    if one.example is None:
        return message
    # One that was inverted from noise was made from no example; its id alone says so.
    message.synthesised = bool(one.example.made_from) or (one.rank > 0 and one.id.startswith("synthesised-"))
    message.principal = one.example.principal
    message.metadata.update(one.example.metadata)
    if max_side:
        try:
            message.image, message.media_type = picture(one.example, max_side)
        except CorruptRecord as error:
            message.damage = str(error)
    return message
