"""The Teaching service."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import grpc

from accrete.v1 import teaching_pb2, teaching_pb2_grpc
from accrete_server import convert
from accrete_server.access.guard import Guard
from accrete_server.config import ServerConfig
from accrete_server.errors import InvalidInput, LimitExceeded
from accrete_server.store_connection import StoreLink
from accrete_server.teach.intake import Batch, Intake
from accrete_server.teach.prefetch import one_ahead
from accrete_server.teach.waiting import wait_learned
from accrete_server.versions.slots import Slots
from accrete_server.watching import Hub, Seats, follow, place_key
from accrete_storage.events import StoredEvent

DEFAULT_WAIT_MS = 60_000
MAX_WAIT_MS = 3_600_000


def check_ids(ids: Sequence[str], limit: int) -> list[str]:
    """The ids, each once. Raises InvalidInput for none, LimitExceeded for too many."""
    if not ids:
        raise InvalidInput("ids: empty; at least one id is needed")
    if len(ids) > limit:
        raise LimitExceeded("max_ids", limit, f"{len(ids)} ids in one call")
    return list(dict.fromkeys(ids))


class Teaching(teaching_pb2_grpc.TeachingServicer):
    """Takes examples in, and tells what becomes of them."""

    def __init__(
        self,
        config: ServerConfig,
        link: StoreLink,
        slots: Slots,
        hub: Hub,
        seats: Seats,
        intake: Intake,
        guard: Guard,
    ) -> None:
        self._config = config
        self._link = link
        self._slots = slots
        self._hub = hub
        self._seats = seats
        self._intake = intake
        self._guard = guard

    def AddExamples(  # noqa: N802  (the contract's names, here and below)
        self, request: teaching_pb2.AddExamplesRequest, context: grpc.ServicerContext
    ) -> teaching_pb2.AddExamplesResponse:
        """Stores a batch of examples."""
        principal = self._guard.principal(context).name
        return teaching_pb2.AddExamplesResponse(results=self._intake.add(request, context, principal))

    def StreamExamples(  # noqa: N802
        self, request_iterator: Iterator[teaching_pb2.AddExamplesRequest], context: grpc.ServicerContext
    ) -> Iterator[teaching_pb2.AddExamplesResponse]:
        """Stores batch after batch, with an answer for each; the next one is read while the one before is stored."""
        principal = self._guard.principal(context).name

        def read(request: teaching_pb2.AddExamplesRequest) -> Batch:
            return self._intake.read_ahead(request, principal)

        with self._seats, one_ahead(request_iterator, read) as batches:
            for batch in batches:
                yield teaching_pb2.AddExamplesResponse(results=self._intake.store(batch, context))

    def WaitLearned(  # noqa: N802
        self, request: teaching_pb2.WaitLearnedRequest, context: grpc.ServicerContext
    ) -> teaching_pb2.WaitLearnedResponse:
        """Waits until the given examples are in the version that this server answers from."""
        ids = check_ids(request.ids, self._config.max_ids)
        if not 0 <= request.timeout_ms <= MAX_WAIT_MS:
            raise InvalidInput(f"timeout_ms: {request.timeout_ms}; 0 to {MAX_WAIT_MS} are allowed")
        timeout_s = (request.timeout_ms or DEFAULT_WAIT_MS) / 1000
        with self._seats:
            waited = wait_learned(self._link, self._slots, ids, timeout_s, context)
        return teaching_pb2.WaitLearnedResponse(
            learned=not waited.waiting, version=waited.version, waiting=waited.waiting
        )

    def Watch(  # noqa: N802
        self, request: teaching_pb2.WatchRequest, context: grpc.ServicerContext
    ) -> Iterator[teaching_pb2.Event]:
        """What the learner does, from `after` or from now on."""
        with self._seats:
            place = request.after or self._link.get().events.last_id()
            place_key(place)
            context.add_callback(self._hub.wake)
            # Tells the caller that the watch has begun: what happens from here on will be seen.
            context.send_initial_metadata(())
            for event in follow(self._hub, self._read, place, context.is_active):
                yield convert.event(event)

    def _read(self, after: str, count: int) -> list[StoredEvent]:
        return self._link.get().events.read(after, None, count)
