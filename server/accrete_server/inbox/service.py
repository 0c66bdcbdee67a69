"""The Inbox service."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

import grpc

from accrete.v1 import inbox_pb2, inbox_pb2_grpc
from accrete_server.access.principal import CALLER
from accrete_server.config import ServerConfig
from accrete_server.errors import Unknown
from accrete_server.inbox.config import InboxConfig
from accrete_server.inbox.labelling import Labelling
from accrete_server.inbox.listing import Listing, check_side
from accrete_server.inbox.pictures import shown
from accrete_server.metrics.collectors import InboxMetrics
from accrete_server.store_connection import StoreConnection
from accrete_server.teach.intake import Intake
from accrete_server.teach.labels import check_ids
from accrete_storage.inbox import Decision

_log = logging.getLogger(__name__)


class Inbox(inbox_pb2_grpc.InboxServicer):
    """Shows what is kept, and takes what people say it is."""

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
        self._metrics = metrics
        self._listing = Listing(connection)
        self._labelling = Labelling(server, config, connection, intake, metrics)

    def ListInbox(  # noqa: N802  (the contract's names, here and below)
        self, request: inbox_pb2.ListInboxRequest, context: grpc.ServicerContext
    ) -> inbox_pb2.ListInboxResponse:
        """Return a page of what is kept."""
        return self._listing.page(request)

    def GetInboxImage(  # noqa: N802
        self, request: inbox_pb2.GetInboxImageRequest, context: grpc.ServicerContext
    ) -> inbox_pb2.GetInboxImageResponse:
        """Return one image."""
        check_side(request.max_side)
        ids, inbox = check_ids([request.id], 1), self._connection.store().inbox
        items, images = inbox.items(ids), inbox.images(ids)
        if request.id not in items or request.id not in images:
            raise Unknown(f"id: {request.id!r} is not in the inbox, or no longer")
        try:
            image, media_type = shown(images[request.id], items[request.id].media_type, request.max_side)
        except Exception as error:  # decoders raise whatever a damaged file leads them to
            raise Unknown(f"id: the image of {request.id!r} cannot be read: {error}") from error
        return inbox_pb2.GetInboxImageResponse(image=image, media_type=media_type)

    def LabelInbox(  # noqa: N802
        self, request: inbox_pb2.LabelInboxRequest, context: grpc.ServicerContext
    ) -> inbox_pb2.LabelInboxResponse:
        """Teach images under the labels given."""
        results = self._labelling.label(request.items, context, CALLER.get().name)
        return inbox_pb2.LabelInboxResponse(results=results)

    def SkipInbox(  # noqa: N802
        self, request: inbox_pb2.SkipInboxRequest, context: grpc.ServicerContext
    ) -> inbox_pb2.SkipInboxResponse:
        """Set images aside."""
        ids, inbox = check_ids(request.ids, self._server.max_ids), self._connection.store().inbox
        decision = Decision(state="skipped", by=CALLER.get().name, time_ms=time.time_ns() // 1_000_000)
        noted = inbox.decide(ids, decision, self._config.places_of(""))
        unknown = [item_id for item_id, what in zip(ids, noted, strict=True) if what is not None]
        self._decided("skipped", len(ids) - len(unknown))
        return inbox_pb2.SkipInboxResponse(skipped=len(ids) - len(unknown), unknown=unknown)

    def ReopenInbox(  # noqa: N802
        self, request: inbox_pb2.ReopenInboxRequest, context: grpc.ServicerContext
    ) -> inbox_pb2.ReopenInboxResponse:
        """Undo labels and skips."""
        ids, store = check_ids(request.ids, self._server.max_ids), self._connection.store()
        reopened = store.control.reopen(ids)
        unknown = self._not_open(ids)
        self._decided("reopened", len(reopened))
        return inbox_pb2.ReopenInboxResponse(reopened=len(ids) - len(unknown), unknown=unknown)

    def _not_open(self, ids: Sequence[str]) -> list[str]:
        found = self._connection.store().inbox.open()
        return [item_id for item_id in ids if item_id not in found]

    def _decided(self, what: str, images: int) -> None:
        if images:
            self._metrics.decided(what, images)
            _log.info(f"inbox.{what}", extra={"images": images})
