"""The Inbox service."""

from __future__ import annotations

from accrete.v1 import inbox_pb2_grpc
from accrete_server.store_connection import StoreConnection


class Inbox(inbox_pb2_grpc.InboxServicer):
    """Shows what is kept, and takes what people say it is."""

    def __init__(self, connection: StoreConnection) -> None:
        """Answer from what the store has.

        Args:
            connection: to the store.
        """
        self._connection = connection
