"""The Teaching service."""

from __future__ import annotations

from collections.abc import Iterator

import grpc

from accrete.v1 import teaching_pb2, teaching_pb2_grpc
from accrete_server.access.principal import CALLER
from accrete_server.config import ServerConfig
from accrete_server.errors import InvalidInput
from accrete_server.event_hub import EventHub, id_key, watch
from accrete_server.store_connection import StoreConnection
from accrete_server.teach import events
from accrete_server.teach.intake import Batch, Intake
from accrete_server.teach.labels import check_ids
from accrete_server.teach.prefetch import prefetch
from accrete_server.teach.stream_limit import StreamLimit
from accrete_server.teach.waiting import wait_learned
from accrete_server.versions.slots import Slots
from accrete_storage.events import StoredEvent

DEFAULT_WAIT_MS = 60_000
MAX_WAIT_MS = 3_600_000


class Teaching(teaching_pb2_grpc.TeachingServicer):
    """Take examples in, and tell what becomes of them."""

    def __init__(
        self,
        config: ServerConfig,
        connection: StoreConnection,
        slots: Slots,
        hub: EventHub,
        stream_limit: StreamLimit,
        intake: Intake,
    ) -> None:
        self._config = config
        self._connection = connection
        self._slots = slots
        self._hub = hub
        self._stream_limit = stream_limit
        self._intake = intake

    def AddExamples(  # noqa: N802  (the contract's names, here and below)
        self, request: teaching_pb2.AddExamplesRequest, context: grpc.ServicerContext
    ) -> teaching_pb2.AddExamplesResponse:
        """Store a batch of examples."""
        principal = CALLER.get().name
        return teaching_pb2.AddExamplesResponse(results=self._intake.add(request, context, principal))

    def StreamExamples(  # noqa: N802
        self, request_iterator: Iterator[teaching_pb2.AddExamplesRequest], context: grpc.ServicerContext
    ) -> Iterator[teaching_pb2.AddExamplesResponse]:
        """Store batch after batch and yield a response for each, decoding the next one while one is stored."""
        principal = CALLER.get().name

        def prepare(request: teaching_pb2.AddExamplesRequest) -> Batch:
            return self._intake.prepare(request, principal)

        with self._stream_limit, prefetch(request_iterator, prepare) as batches:
            for batch in batches:
                yield teaching_pb2.AddExamplesResponse(results=self._intake.store(batch, context))

    def WaitLearned(  # noqa: N802
        self, request: teaching_pb2.WaitLearnedRequest, context: grpc.ServicerContext
    ) -> teaching_pb2.WaitLearnedResponse:
        """Wait until the given examples are in the version that this server answers from."""
        ids = check_ids(request.ids, self._config.max_ids)
        if not 0 <= request.timeout_ms <= MAX_WAIT_MS:
            raise InvalidInput(f"timeout_ms: {request.timeout_ms}; 0 to {MAX_WAIT_MS} are allowed")
        timeout_s = (request.timeout_ms or DEFAULT_WAIT_MS) / 1000
        with self._stream_limit:
            waited = wait_learned(self._connection, self._slots, ids, timeout_s, context)
        return teaching_pb2.WaitLearnedResponse(
            learned=not waited.waiting, version=waited.version, waiting=waited.waiting
        )

    def Watch(  # noqa: N802
        self, request: teaching_pb2.WatchRequest, context: grpc.ServicerContext
    ) -> Iterator[teaching_pb2.Event]:
        """Yield what the learner does, from `after` or from now on."""
        with self._stream_limit:
            after = request.after or self._connection.store().events.last_id()
            id_key(after)
            context.add_callback(self._hub.wake)
            # Tells the caller that the watch has begun: what happens from here on will be seen.
            context.send_initial_metadata(())
            for event in watch(self._hub, self._read, after, context.is_active):
                yield events.event(event)

    def _read(self, after: str, count: int) -> list[StoredEvent]:
        return self._connection.store().events.read(after, None, count)
