"""The gRPC service for looking at classes and putting them in order."""

from __future__ import annotations

from accrete.v1 import curation_pb2_grpc
from accrete_server.store_connection import StoreConnection


class Curation(curation_pb2_grpc.CurationServicer):
    """Answers callers who look at examples and judgements, rename classes and merge them."""

    def __init__(self, connection: StoreConnection) -> None:
        """Answer from what the store has.

        Args:
            connection: to the store.
        """
        self._connection = connection
