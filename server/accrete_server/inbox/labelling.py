"""From what people say about images in the inbox to stored examples."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import grpc

from accrete.v1 import inbox_pb2, teaching_pb2, types_pb2
from accrete_kit.failpoints import around
from accrete_server.config import ServerConfig
from accrete_server.errors import InvalidInput, LimitExceeded
from accrete_server.inbox.config import InboxConfig
from accrete_server.metrics.collectors import InboxMetrics
from accrete_server.predict.admission import Call
from accrete_server.store_connection import StoreConnection
from accrete_server.teach.intake import Intake
from accrete_server.teach.labels import check_label
from accrete_storage.inbox import Decision, Noted
from accrete_storage.store import Store

Result = inbox_pb2.InboxResult

_INVALID = int(grpc.StatusCode.INVALID_ARGUMENT.value[0])
_MISSING = int(grpc.StatusCode.NOT_FOUND.value[0])
_EXISTS = int(grpc.StatusCode.ALREADY_EXISTS.value[0])
_METADATA = {"source": "inbox"}


class Labelling:
    """Teaches images under the labels that people give them, each once."""

    def __init__(
        self,
        server: ServerConfig,
        config: InboxConfig,
        connection: StoreConnection,
        intake: Intake,
        metrics: InboxMetrics,
    ) -> None:
        self._server = server
        self._config = config
        self._connection = connection
        self._intake = intake
        self._metrics = metrics

    def label(self, items: Sequence[inbox_pb2.LabelInboxRequest.Item], call: Call, by: str) -> list[Result]:
        """Store an example of each image, then note its label, and return a result for each.

        Where it ends between the two, the same call does the rest: the example's id is the image's.

        Args:
            items: images and their labels.
            call: the gRPC call that waits for it.
            by: name of who says so.

        Raises:
            InvalidInput, LimitExceeded, and what `Intake.add` raises: nothing was stored.
            StoreUnavailable: whether it was stored is unknown; sent again, it is stored once.
        """
        self._check(items)
        store = self._connection.store()
        ids = [item.id for item in items]
        decisions, images = store.inbox.decisions(ids), store.inbox.images(ids)
        results = {
            item.id: _known(item, decisions.get(item.id), item.id in images) or self._checked(item) for item in items
        }
        new = [item for item in items if results[item.id] is None]
        if new:
            results |= self._teach(new, images, call, by, store)
        return [_found(results[item.id]) for item in items]

    def _check(self, items: Sequence[inbox_pb2.LabelInboxRequest.Item]) -> None:
        """Check what concerns the whole call. Raises InvalidInput, LimitExceeded."""
        if not items:
            raise InvalidInput("items: empty; at least one item is needed")
        limit = self._server.max_examples
        if len(items) > limit:
            raise LimitExceeded("max_examples", limit, f"{len(items)} items in one call")
        seen: set[str] = set()
        for index, item in enumerate(items):
            if item.id in seen:
                raise InvalidInput(f"items[{index}].id: {item.id!r} is given twice")
            seen.add(item.id)

    def _checked(self, item: inbox_pb2.LabelInboxRequest.Item) -> Result | None:
        """Return why a label is refused, or None."""
        try:
            check_label(item.label, self._server.max_label_bytes)
        except InvalidInput as error:
            return _refused(item.id, _INVALID, str(error))
        return None

    def _teach(
        self,
        items: Sequence[inbox_pb2.LabelInboxRequest.Item],
        images: Mapping[str, bytes],
        call: Call,
        by: str,
        store: Store,
    ) -> dict[str, Result | None]:
        examples = [
            teaching_pb2.Example(
                id=item.id, label=item.label, image=types_pb2.Image(encoded=images[item.id]), metadata=_METADATA
            )
            for item in items
        ]
        taught = self._intake.add(teaching_pb2.AddExamplesRequest(examples=examples), call, by)
        stored: dict[str, list[str]] = defaultdict(list)
        outcomes: dict[str, Result.Outcome.ValueType] = {}
        results: dict[str, Result | None] = {}
        for item, one in zip(items, taught, strict=True):
            if one.outcome != teaching_pb2.ExampleResult.REFUSED:
                stored[item.label].append(item.id)
                is_new = one.outcome == teaching_pb2.ExampleResult.STORED
                outcomes[item.id] = Result.STORED if is_new else Result.DUPLICATE
            elif one.code == _EXISTS:
                results[item.id] = self._labelled_otherwise(item, store)
            else:
                results[item.id] = _refused(item.id, one.code, one.reason.partition(".")[2])
        with around("inbox"):
            noted = self._note(stored, by, store)
        gone = [item_id for item_id, what in noted.items() if what == "gone"]
        left = store.pending.locate(gone)
        for item_id, what in noted.items():
            if what == "gone" and item_id not in left:
                results[item_id] = _refused(item_id, _MISSING, "it was deleted meanwhile")
            else:
                results[item_id] = Result(id=item_id, outcome=outcomes[item_id], example_id=item_id)
        self._metrics.decided("labelled", sum(outcome == Result.STORED for outcome in outcomes.values()))
        return results

    def _note(self, stored: Mapping[str, Iterable[str]], by: str, store: Store) -> dict[str, Noted]:
        """Note the labels of images whose examples are stored, by label."""
        noted: dict[str, Noted] = {}
        for label, ids in stored.items():
            decision = Decision(state="labelled", label=label, by=by, time_ms=time.time_ns() // 1_000_000)
            ids = list(ids)
            noted |= dict(zip(ids, store.inbox.decide(ids, decision, self._config.places_of("")), strict=True))
        return noted

    def _labelled_otherwise(self, item: inbox_pb2.LabelInboxRequest.Item, store: Store) -> Result:
        """Return the refusal of an image whose example has another label.

        Its call may have ended before that was noted, and then it is noted now, without a name.
        """
        place = store.pending.locate([item.id]).get(item.id)
        if place is not None:
            self._note({place.label: [item.id]}, "", store)
        decision = store.inbox.decisions([item.id]).get(item.id)
        return _taken(item.id, decision or Decision(state="labelled", label=place.label if place else ""))


def _known(item: inbox_pb2.LabelInboxRequest.Item, decision: Decision | None, is_kept: bool) -> Result | None:
    """Return the result of an image that is labelled already, or not kept; None for one that is to be taught."""
    if not is_kept:
        return _refused(item.id, _MISSING, "it is not in the inbox, or no longer")
    if decision is None or decision.state != "labelled":
        return None
    if decision.label != item.label:
        return _taken(item.id, decision)
    return Result(id=item.id, outcome=Result.DUPLICATE, example_id=item.id)


def _taken(item_id: str, decision: Decision) -> Result:
    by = f" by {decision.by}" if decision.by else ""
    return _refused(item_id, _EXISTS, f"it was labelled {decision.label!r}{by} meanwhile; reopen it to label it anew")


def _refused(item_id: str, code: int, reason: str) -> Result:
    return Result(id=item_id, outcome=Result.REFUSED, code=code, reason=reason)


def _found(result: Result | None) -> Result:
    assert result is not None  # each item is known, refused or taught
    return result
