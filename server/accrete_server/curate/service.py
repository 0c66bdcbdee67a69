"""The gRPC service for looking at classes and putting them in order."""

from __future__ import annotations

import logging
from collections.abc import Callable

import grpc

from accrete.v1 import curation_pb2, curation_pb2_grpc
from accrete_server.config import ServerConfig
from accrete_server.curate import evaluations, examples
from accrete_server.errors import InvalidInput, NotNow
from accrete_server.store_connection import StoreConnection
from accrete_server.teach.labels import check_label, known_or_checked
from accrete_server.versions.awaiting import await_revision
from accrete_server.versions.slots import Slots
from accrete_storage.renaming import RenameResult

MAX_PICTURES = 2**24
"""Bytes of pictures in one response, beyond which its page ends; fewer where messages may be of less."""

_log = logging.getLogger(__name__)


class Curation(curation_pb2_grpc.CurationServicer):
    """Answers callers who look at examples and judgements, rename classes and merge them."""

    def __init__(self, config: ServerConfig, connection: StoreConnection, slots: Slots) -> None:
        """Answer from what the store has.

        Args:
            config: its limits.
            connection: to the store.
            slots: what this server serves.
        """
        self._config = config
        self._connection = connection
        self._slots = slots

    def ListExamples(  # noqa: N802
        self, request: curation_pb2.ListExamplesRequest, context: grpc.ServicerContext
    ) -> curation_pb2.ListExamplesResponse:
        """Return a page of a label's examples."""
        most = min(MAX_PICTURES, self._config.max_message_bytes // 4)
        with known_or_checked(self._config.max_label_bytes, request.label):
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

    def RenameClass(  # noqa: N802
        self, request: curation_pb2.RenameClassRequest, context: grpc.ServicerContext
    ) -> curation_pb2.RenameClassResponse:
        """Give a class another label, and return once this server answers by it."""
        try:
            check_label(request.new_label, self._config.max_label_bytes)
        except InvalidInput as error:
            raise InvalidInput(f"new_{error}") from None
        if request.new_label == request.label:
            raise InvalidInput(f"new_label: {request.label!r} is what it is called already")
        renaming = self._connection.store().renaming
        done = self._changed(lambda: renaming.rename(request.label, request.new_label), context, request.label)
        _log.info("class.renamed", extra={"label": request.label, "new_label": request.new_label})
        return curation_pb2.RenameClassResponse(examples=done.examples)

    def MergeClasses(  # noqa: N802
        self, request: curation_pb2.MergeClassesRequest, context: grpc.ServicerContext
    ) -> curation_pb2.MergeClassesResponse:
        """Make a class part of another one, and return once this server answers both as one."""
        if request.into == request.label:
            raise InvalidInput(f"into: {request.label!r} cannot become part of itself")
        renaming = self._connection.store().renaming
        done = self._changed(lambda: renaming.merge(request.label, request.into), context, request.label, request.into)
        _log.info("class.merged", extra={"label": request.label, "into": request.into})
        return curation_pb2.MergeClassesResponse(examples=done.examples)

    def _changed(self, change: Callable[[], RenameResult], context: grpc.ServicerContext, *labels: str) -> RenameResult:
        """Change a class, and wait until this server serves it so."""
        with known_or_checked(self._config.max_label_bytes, *labels):
            done = change()
        await_revision(self._slots, done.revision, context)
        return done
