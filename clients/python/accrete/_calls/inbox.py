"""The calls for images that the model was unsure of. `Client` has what they mean."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .._errors import InvalidInput
from .._inputs import check_label, to_ids
from .._results import InboxImage, InboxOrder, InboxPage, InboxReport, InboxResult, InboxState
from .._transport.caller import Caller
from .._transport.methods import GET_INBOX_IMAGE, LABEL_INBOX, LIST_INBOX, REOPEN_INBOX, SKIP_INBOX
from ..v1 import inbox_pb2 as ib
from . import decoding

MAX_LABELS = 256  # in one call, by a server's default
MAX_IDS = 10_000

_ORDERS: dict[InboxOrder, ib.ListInboxRequest.Order.ValueType] = {
    "doubt": ib.ListInboxRequest.DOUBT,
    "newest": ib.ListInboxRequest.NEWEST,
    "look": ib.ListInboxRequest.LOOK,
}
_STATES: dict[InboxState, ib.InboxItem.State.ValueType] = {
    "open": ib.InboxItem.OPEN,
    "labelled": ib.InboxItem.LABELLED,
    "skipped": ib.InboxItem.SKIPPED,
}


async def inbox(
    caller: Caller,
    *,
    order: InboxOrder,
    state: InboxState,
    page_size: int,
    page_token: str,
    max_side: int,
    timeout: float | None,
) -> InboxPage:
    for name, value, known in (("order", order, list(_ORDERS)), ("state", state, list(_STATES))):
        if value not in known:
            raise InvalidInput(f"{name}: {value!r}; {', '.join(map(repr, known))} are allowed")
    request = ib.ListInboxRequest(
        order=_ORDERS[order], state=_STATES[state], page_size=page_size, page_token=page_token, max_side=max_side
    )
    return decoding.inbox_page(await caller.call(LIST_INBOX, request, timeout))


async def inbox_image(caller: Caller, item_id: str, max_side: int, timeout: float | None) -> InboxImage:
    response = await caller.call(GET_INBOX_IMAGE, ib.GetInboxImageRequest(id=item_id, max_side=max_side), timeout)
    return InboxImage(image=response.image, media_type=response.media_type)


async def label_inbox(caller: Caller, labels: Mapping[str, str], timeout: float | None) -> list[InboxResult]:
    """Label in as many calls as needed."""
    to_ids(labels)
    for item_id, label in labels.items():
        check_label(label, f"the label of {item_id}")
    given = [ib.LabelInboxRequest.Item(id=item_id, label=label) for item_id, label in labels.items()]
    results: list[InboxResult] = []
    for start in range(0, len(given), MAX_LABELS):
        request = ib.LabelInboxRequest(items=given[start : start + MAX_LABELS])
        response = await caller.call(LABEL_INBOX, request, timeout)
        results += map(decoding.inbox_result, response.results)
    return results


async def skip_inbox(caller: Caller, ids: Iterable[str], timeout: float | None) -> InboxReport:
    given = to_ids(ids)
    changed, unknown = 0, list[str]()
    for start in range(0, len(given), MAX_IDS):
        response = await caller.call(SKIP_INBOX, ib.SkipInboxRequest(ids=given[start : start + MAX_IDS]), timeout)
        changed += response.skipped
        unknown += response.unknown
    return InboxReport(changed=changed, unknown=unknown)


async def reopen_inbox(caller: Caller, ids: Iterable[str], timeout: float | None) -> InboxReport:
    given = to_ids(ids)
    changed, unknown = 0, list[str]()
    for start in range(0, len(given), MAX_IDS):
        response = await caller.call(REOPEN_INBOX, ib.ReopenInboxRequest(ids=given[start : start + MAX_IDS]), timeout)
        changed += response.reopened
        unknown += response.unknown
    return InboxReport(changed=changed, unknown=unknown)
