"""What the front on a completion queue of its own uses of grpcio beyond its public interface.

When a test here fails with a new release of grpcio: servers of it serve by handlers all the same where `missing` tells
what is gone (`server.front` is "auto"). If it tells nothing, and a call here fails, set an upper bound of grpcio in
`pyproject.toml` at once, and then follow what changed in `server/accrete_server/fronts/completion_queue.py`.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from concurrent import futures
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from grpc._cython import cygrpc  # type: ignore[attr-defined]

from accrete.v1 import prediction_pb2, prediction_pb2_grpc
from accrete_server.fronts import completion_queue
from accrete_server.fronts.choosing import choose
from accrete_server.fronts.completion_queue import missing
from benchmarks.waiting import until
from tests.server.world import Blocked, pixels, raw

CODES = grpc.StatusCode
PREDICT = "/accrete.v1.Prediction/Predict"


class _Server:
    """One with a service whose method is taken by a queue of its own, as the front does it, and nothing above it."""

    def __init__(self) -> None:
        self.server = grpc.server(futures.ThreadPoolExecutor(1))
        prediction_pb2_grpc.add_PredictionServicer_to_server(prediction_pb2_grpc.PredictionServicer(), self.server)  # type: ignore[abstract]
        assert missing(self.server, [PREDICT]) == ""
        state: Any = self.server._state  # type: ignore[attr-defined]
        self.core, self.queue = state.server, cygrpc.CompletionQueue()
        self.core.register_completion_queue(self.queue)
        del state.registered_method_handlers[PREDICT]
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()
        self.core.request_registered_call(self.queue, self.queue, PREDICT, "came")

    def event(self) -> Any:
        event = self.queue.poll(None)
        assert event.completion_type != cygrpc.CompletionType.queue_timeout
        return event


@pytest.fixture
def served() -> Iterator[_Server]:
    served = _Server()
    yield served
    served.server.stop(None).wait()
    served.queue.shutdown()
    while served.queue.poll(None).completion_type != cygrpc.CompletionType.queue_shutdown:
        pass


@pytest.fixture
def stub(served: _Server) -> Iterator[prediction_pb2_grpc.PredictionStub]:
    with grpc.insecure_channel(f"127.0.0.1:{served.port}") as channel:
        yield prediction_pb2_grpc.PredictionStub(channel)


def test_a_call_comes_is_read_and_is_answered_with_trailers(served: _Server, stub: Any):
    request = prediction_pb2.PredictRequest(top_k=3)
    under_way = stub.Predict.future(request, timeout=300, metadata=(("who", "me"), ("raw-bin", b"\0\1")))
    came = served.event()
    assert (came.tag, came.success) == ("came", True)
    assert {("who", "me"), ("raw-bin", b"\0\1")} <= {tuple(pair) for pair in came.invocation_metadata}
    assert 0 < came.call_details.deadline < float("inf")
    assert came.call.peer().startswith(b"ipv4:127.0.0.1:")
    assert isinstance(cygrpc.auth_context(came.call), dict)
    came.call.start_server_batch((cygrpc.ReceiveCloseOnServerOperation(0),), "closed")
    came.call.start_server_batch((cygrpc.ReceiveMessageOperation(0),), "received")
    received = served.event()
    assert received.tag == "received"
    assert received.batch_operations[0].message() == request.SerializeToString()
    answer = prediction_pb2.PredictResponse(version=7)
    operations = (
        cygrpc.SendInitialMetadataOperation(None, 0),
        cygrpc.SendMessageOperation(answer.SerializeToString(), 0),
        cygrpc.SendStatusFromServerOperation((("told", "you"),), cygrpc.StatusCode.ok, b"", 0),
    )
    came.call.start_server_batch(operations, "sent")
    assert under_way.result() == answer
    assert ("told", "you") in {tuple(pair) for pair in under_way.trailing_metadata()}
    ends = {event.tag: event for event in (served.event(), served.event())}
    assert set(ends) == {"sent", "closed"}
    assert not ends["closed"].batch_operations[0].cancelled()


def test_a_call_is_refused_before_its_message_is_read(served: _Server, stub: Any):
    under_way = stub.Predict.future(prediction_pb2.PredictRequest(), timeout=300)
    came = served.event()
    operations = (
        cygrpc.SendInitialMetadataOperation(None, 0),
        cygrpc.ReceiveCloseOnServerOperation(0),
        cygrpc.SendStatusFromServerOperation(None, grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], b"full", 0),
    )
    came.call.start_server_batch(operations, "refused")
    assert (under_way.code(), under_way.details()) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
    assert served.event().tag == "refused"


def test_an_answer_waits_for_the_end_of_the_call_along_with_it(served: _Server, stub: Any):
    under_way = stub.Predict.future(prediction_pb2.PredictRequest(), timeout=300)
    came = served.event()
    came.call.start_server_batch((cygrpc.ReceiveMessageOperation(0),), "received")
    assert served.event().tag == "received"
    operations = (
        cygrpc.SendInitialMetadataOperation(None, 0),
        cygrpc.SendMessageOperation(prediction_pb2.PredictResponse(version=7).SerializeToString(), 0),
        cygrpc.SendStatusFromServerOperation(None, cygrpc.StatusCode.ok, b"", 0),
        cygrpc.ReceiveCloseOnServerOperation(0),
    )
    came.call.start_server_batch(operations, "ended")
    assert under_way.result().version == 7
    ended = served.event()
    assert ended.tag == "ended"
    assert not ended.batch_operations[-1].cancelled()


def test_a_caller_that_hung_up_unseen_is_told_of_as_soon_as_somebody_asks(served: _Server, stub: Any):
    under_way = stub.Predict.future(prediction_pb2.PredictRequest(), timeout=300)
    came = served.event()
    came.call.start_server_batch((cygrpc.ReceiveMessageOperation(0),), "received")
    assert served.event().tag == "received"
    under_way.cancel()
    came.call.start_server_batch((cygrpc.ReceiveCloseOnServerOperation(0),), "closed")
    closed = served.event()
    assert closed.tag == "closed"
    assert closed.batch_operations[0].cancelled()


def test_a_caller_that_hangs_up_is_told_of(served: _Server, stub: Any):
    under_way = stub.Predict.future(prediction_pb2.PredictRequest(), timeout=300)
    came = served.event()
    came.call.start_server_batch((cygrpc.ReceiveCloseOnServerOperation(0),), "closed")
    under_way.cancel()
    closed = served.event()
    assert closed.tag == "closed"
    assert closed.batch_operations[0].cancelled()


def test_a_wait_for_events_ends_at_its_time_and_a_stop_ends_what_was_asked_for(served: _Server):
    assert served.queue.poll(0.0).completion_type == cygrpc.CompletionType.queue_timeout
    stopping = threading.Thread(target=lambda: served.server.stop(None).wait())
    stopping.start()
    ended = served.event()
    assert (ended.tag, ended.success) == ("came", False)
    stopping.join()
    with pytest.raises(ValueError, match="shutting down"):
        served.core.request_registered_call(served.queue, served.queue, PREDICT, "came")


def test_what_is_missing_is_named_and_handlers_serve_where_that_is_left_to_the_server(monkeypatch):
    server = grpc.server(futures.ThreadPoolExecutor(1))
    assert missing(server, [PREDICT]) == "grpc.Server._state.registered_method_handlers"
    other: Any = SimpleNamespace()
    assert missing(other, []) == "grpc.Server._state.server"
    lacks_poll = SimpleNamespace(**{name: getattr(cygrpc, name) for name in completion_queue._USED})
    lacks_poll.CompletionQueue = type("CompletionQueue", (), {"shutdown": None})
    monkeypatch.setattr(completion_queue, "cygrpc", lacks_poll)
    lacking = missing(server, [])
    assert lacking == "cygrpc.CompletionQueue.poll"
    chosen = choose("auto", lacking)
    assert not chosen.own
    assert chosen.text == f"handlers: grpcio {grpc.__version__} has no cygrpc.CompletionQueue.poll"
    with pytest.raises(ValueError, match="'auto' and 'handlers' are allowed"):
        choose("queue", lacking)
    assert choose("queue", "").own
    assert not choose("handlers", "").own


def test_status_says_which_front_serves(world):
    assert world.server().status().front == "queue"
    assert world.server(front="handlers").status().front == "handlers: server.front says so"


def _calls() -> int:
    gc.collect()
    return sum(type(thing) is completion_queue._QueueCall for thing in gc.get_objects())


def test_calls_that_end_in_every_way_at_once_leave_nothing_behind(world):
    world.publish(1)
    running = world.server(concurrency=2, queue=16, max_message_bytes=1024)
    good, large = (prediction_pb2.PredictRequest(images=[raw(pixels(0, (side, side, 3)))]) for side in (4, 40))
    running.predict()
    before, codes = _calls(), set()
    for number in range(400):
        timeout = 0.003 if number % 5 == 0 else 300
        call = running.prediction.Predict.future(good if number % 7 else large, timeout=timeout)
        if number % 3 == 0:
            call.cancel()
        elif number % 11 == 0:
            codes.add(call.code())
    assert codes <= {CODES.OK, CODES.DEADLINE_EXCEEDED, CODES.RESOURCE_EXHAUSTED}
    until(lambda: running.server._interceptor.under_way == 0)
    assert (running.server.predict_line.waiting, running.server._line_threads._front.coming) == (0, 0)
    assert running.predict().version == 1
    until(lambda: _calls() <= before)


def test_a_stop_that_finds_a_turn_longer_than_its_grace_waits_for_it_and_ends(world):
    world.publish(1)
    running = world.server(grace_s=0.2)
    blocked = Blocked(running)
    call = blocked.take_turn()
    stopping = threading.Thread(target=lambda: world.stop(running))
    stopping.start()
    assert call.code() in (CODES.CANCELLED, CODES.UNAVAILABLE)
    blocked.gate.set()
    stopping.join(60)
    assert not stopping.is_alive()


def test_an_answer_that_is_ready_once_the_front_has_closed_is_given_up(world, monkeypatch):
    # A server that stops need not have seen yet that its caller was cut off. gRPC's core aborts the process then.
    monkeypatch.setattr(completion_queue._QueueCall, "_closed", lambda call, event: None)
    world.publish(1)
    running = world.server(grace_s=0.2)
    blocked = Blocked(running)
    call = blocked.take_turn()
    front = running.server._line_threads._front
    stopping = threading.Thread(target=lambda: world.stop(running))
    stopping.start()
    assert call.code() in (CODES.CANCELLED, CODES.UNAVAILABLE)
    until(lambda: not front._stand_in.is_alive())
    blocked.gate.set()
    stopping.join(60)
    assert not stopping.is_alive()
