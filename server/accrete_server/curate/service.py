"""The gRPC service for looking at classes and putting them in order."""

from __future__ import annotations

import grpc

from accrete.v1 import curation_pb2, curation_pb2_grpc
from accrete_server.config import ServerConfig
from accrete_server.curate import evaluations, examples
from accrete_server.errors import NotNow
from accrete_server.store_connection import StoreConnection
from accrete_server.teach.labels import check_label
from accrete_server.versions.slots import Slots

MAX_PICTURES = 2**24
"""Bytes of pictures in one response, beyond which its page ends; fewer where messages may be of less."""


class Curation(curation_pb2_grpc.CurationServicer):
    """Answers callers who look at examples and judgements, rename classes and merge them."""

    def __init__(self, config: ServerConfig, connection: StoreConnection, slots: Slots) -> None:
        """Answer from what the store has.

        Args:
            config: its limits.
            connection: to the store.
            slots: have the live version.
        """
        self._config = config
        self._connection = connection
        self._slots = slots

    def ListExamples(  # noqa: N802
        self, request: curation_pb2.ListExamplesRequest, context: grpc.ServicerContext
    ) -> curation_pb2.ListExamplesResponse:
        """Return a page of a label's examples."""
        check_label(request.label, self._config.max_label_bytes)
        most = min(MAX_PICTURES, self._config.max_message_bytes // 4)
        return examples.page(self._connection.store(), request, most)

    def GetEvaluation(  # noqa: N802
        self, request: curation_pb2.GetEvaluationRequest, context: grpc.ServicerContext
    ) -> curation_pb2.GetEvaluationResponse:
        """Return how a version judged images, or how the live one did."""
        version = request.version or self._slots.version
        if not version:
            raise NotNow("nothing is learned yet: no version judges anything")
        return evaluations.evaluation(self._connection.store(), version)

    def CompareVersions(  # noqa: N802
        self, request: curation_pb2.CompareVersionsRequest, context: grpc.ServicerContext
    ) -> curation_pb2.CompareVersionsResponse:
        """Return what one version judges otherwise than another."""
        return evaluations.comparison(self._connection.store(), request.base, request.other)
