"""A server that speaks the whole contract over a real port, keeps everything in memory, and fails when told to."""

from __future__ import annotations

import hashlib
import math
import threading
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from concurrent import futures
from dataclasses import dataclass, field
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from accrete.v1 import operation_pb2 as op
from accrete.v1 import operation_pb2_grpc, prediction_pb2_grpc, teaching_pb2_grpc
from accrete.v1 import prediction_pb2 as pr
from accrete.v1 import teaching_pb2 as te
from accrete.v1 import types_pb2 as ty

MAX_MESSAGE_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Fault:
    """How one call goes wrong."""

    code: grpc.StatusCode
    details: str = "as told"
    retry_after_ms: int | None = None
    late: bool = False
    """After the work has been done: only the answer is lost."""

    def abort(self, context: Any) -> None:
        trailers = () if self.retry_after_ms is None else (("retry-after-ms", str(self.retry_after_ms)),)
        context.set_trailing_metadata(trailers)
        context.abort(self.code, self.details)


@dataclass
class State:
    """What the server knows, and what it was asked."""

    examples: dict[str, te.Example] = field(default_factory=dict)
    learned: set[str] = field(default_factory=set)
    answers: dict[bytes, pr.PredictResponse.ImagePrediction] = field(default_factory=dict)
    """By the bytes of an image; others are answered alike."""
    classes: list[op.ClassInfo] = field(
        default_factory=lambda: [
            op.ClassInfo(label="cat", state=ty.LEARNED, exemplars=20, holdout=5, since_version=1),
            op.ClassInfo(label="héron", state=ty.PENDING, pending=7),
        ]
    )
    version: int = 1
    pinned: bool = False
    paused: bool = False
    blocked: str = ""
    status: dict[str, Any] = field(default_factory=dict)
    """Fields of GetStatus that are otherwise than they are here."""
    held: list[op.HeldLabel] = field(
        default_factory=lambda: [
            op.HeldLabel(label="moth", pending=7, attempts=3, reason="out of memory"),
            op.HeldLabel(label="owl", pending=2, reason="the label is new", awaiting_approval=True),
        ]
    )
    servers: list[op.ServerInfo] = field(default_factory=list)
    trailers: tuple[tuple[str, str], ...] = ()
    max_images: int = 64
    max_batch: int = 256
    events: list[te.Event] = field(default_factory=list)
    calls: list[tuple[str, Any]] = field(default_factory=list)
    faults: defaultdict[str, deque[Fault]] = field(default_factory=lambda: defaultdict(deque))
    hangs: set[str] = field(default_factory=set)
    changed: threading.Condition = field(default_factory=threading.Condition)
    watchers: int = 0
    drops: int = 0
    batches_until_drop: int | None = None
    stopping: bool = False

    def requests(self, method: str) -> list[Any]:
        return [request for name, request in self.calls if name == method]

    def fail(self, method: str, code: grpc.StatusCode, *, times: int = 1, **how: Any) -> None:
        self.faults[method].extend(Fault(code=code, **how) for _ in range(times))

    def release(self, method: str) -> None:
        """Ends the wait of all calls that hang."""
        with self.changed:
            self.hangs.discard(method)
            self.changed.notify_all()

    def emit(self, **what: Any) -> None:
        with self.changed:
            number = len(self.events) + 1
            self.events.append(te.Event(id=f"{number}-0", time_ms=1_700_000_000_000 + number, **what))
            self.changed.notify_all()

    def drop_watchers(self) -> None:
        """Ends all Watch calls, and returns when they have ended."""
        with self.changed:
            self.drops += 1
            self.changed.notify_all()
            self.changed.wait_for(lambda: not self.watchers, timeout=20)

    def learn(self, ids: Iterable[str]) -> None:
        with self.changed:
            self.learned |= set(ids)
            self.version += 1
            self.changed.notify_all()


class _Entry:
    """What happens to every call before and after its work."""

    def __init__(self, state: State) -> None:
        self.state = state

    def enter(self, method: str, request: Any, context: Any) -> Fault | None:
        """Aborts if told so; returns a fault that is to come after the work."""
        self.state.calls.append((method, request))
        if self.state.trailers:
            context.set_trailing_metadata(self.state.trailers)
        if method in self.state.hangs:
            with self.state.changed:
                state = self.state
                state.changed.wait_for(
                    lambda: method not in state.hangs or state.stopping or not context.is_active(), timeout=20
                )
        fault = self.state.faults[method].popleft() if self.state.faults[method] else None
        if fault and not fault.late:
            fault.abort(context)
        return fault

    def leave(self, fault: Fault | None, context: Any) -> None:
        if fault:
            fault.abort(context)


class Prediction(_Entry, prediction_pb2_grpc.PredictionServicer):
    """Answers the number of bytes that an image has as its features."""

    def Predict(self, request, context):  # noqa: N802
        self.enter("Predict", request, context)
        if len(request.images) > self.state.max_images:
            Fault(code=grpc.StatusCode.RESOURCE_EXHAUSTED, details="max_images").abort(context)
        for index, image in enumerate(request.images):
            if image.encoded == b"bad":
                Fault(code=grpc.StatusCode.INVALID_ARGUMENT, details=f"images[{index}]: not an image").abort(context)
        return pr.PredictResponse(
            predictions=[self._one(image, request) for image in request.images],
            version=self.state.version,
            timings=pr.Timings(decode_ms=0.5, queue_ms=0.25, compute_ms=1.0, total_ms=2.0),
            false_alarm_rate=request.unknown_rate * 0.96,
        )

    def _one(self, image: ty.Image, request: pr.PredictRequest) -> pr.PredictResponse.ImagePrediction:
        if image.encoded in self.state.answers:
            return self.state.answers[image.encoded]
        labels = [
            pr.RankedLabel(label="cat", probability=0.75),
            pr.RankedLabel(label="heron", probability=0.25, provisional=True),
        ]
        size = len(image.encoded) or len(image.tensor.data)
        return pr.PredictResponse.ImagePrediction(
            labels=labels[: request.top_k or 5],
            features=[size, 2.0] if request.features else [],
            unknown=bool(request.unknown_rate),
        )


class Teaching(_Entry, teaching_pb2_grpc.TeachingServicer):
    """Stores by id."""

    def AddExamples(self, request, context):  # noqa: N802
        fault = self.enter("AddExamples", request, context)
        if len(request.examples) > self.state.max_batch:
            Fault(code=grpc.StatusCode.RESOURCE_EXHAUSTED, details="max_batch").abort(context)
        response = self._store(request)
        self.leave(fault, context)
        return response

    def StreamExamples(self, requests, context):  # noqa: N802
        self.enter("StreamExamples", None, context)
        for request in requests:
            self.state.calls.append(("batch", request))
            if len(request.examples) > self.state.max_batch:
                Fault(code=grpc.StatusCode.RESOURCE_EXHAUSTED, details="max_batch").abort(context)
            response = self._store(request)
            if self.state.batches_until_drop is not None:
                self.state.batches_until_drop -= 1
                if self.state.batches_until_drop < 0:
                    self.state.batches_until_drop = None
                    Fault(code=grpc.StatusCode.UNAVAILABLE, details="dropped").abort(context)
            yield response

    def WaitLearned(self, request, context):  # noqa: N802
        self.enter("WaitLearned", request, context)
        wanted = set(request.ids)
        unknown = wanted - set(self.state.examples)
        if unknown:
            Fault(code=grpc.StatusCode.NOT_FOUND, details=f"id {min(unknown)}").abort(context)
        with self.state.changed:
            self.state.changed.wait_for(
                lambda: wanted <= self.state.learned or self.state.stopping, timeout=request.timeout_ms / 1000
            )
        waiting = [id for id in request.ids if id not in self.state.learned]
        return te.WaitLearnedResponse(learned=not waiting, version=self.state.version, waiting=waiting)

    def Watch(self, request, context) -> Iterator[te.Event]:  # noqa: N802
        self.enter("Watch", request, context)
        context.add_callback(self._wake)
        with self.state.changed:
            position = int(request.after.partition("-")[0]) if request.after else len(self.state.events)
            drops = self.state.drops
            self.state.watchers += 1
        try:
            while self._wait(context, position, drops):
                yield self.state.events[position]
                position += 1
        finally:
            self._left()
        Fault(code=grpc.StatusCode.UNAVAILABLE, details="dropped").abort(context)

    def _wait(self, context: Any, position: int, drops: int) -> bool:
        """True: there is an event at this position; False: the call is to end."""
        with self.state.changed:
            self.state.changed.wait_for(
                lambda: len(self.state.events) > position or self._over(context, drops), timeout=300
            )
            return not self._over(context, drops)

    def _over(self, context: Any, drops: int) -> bool:
        return self.state.drops > drops or self.state.stopping or not context.is_active()

    def _left(self) -> None:
        with self.state.changed:
            self.state.watchers -= 1
            self.state.changed.notify_all()

    def _wake(self) -> None:
        with self.state.changed:
            self.state.changed.notify_all()

    def _store(self, request: te.AddExamplesRequest) -> te.AddExamplesResponse:
        return te.AddExamplesResponse(results=[self._one(index, one) for index, one in enumerate(request.examples)])

    def _one(self, index: int, example: te.Example) -> te.ExampleResult:
        content = example.image.SerializeToString(deterministic=True)
        if example.image.encoded == b"bad":
            reason = f"examples[{index}].image: not an image"
            return te.ExampleResult(outcome=te.ExampleResult.REFUSED, code=3, reason=reason)
        id = example.id or hashlib.blake2b(example.label.encode() + content, digest_size=16).hexdigest()
        known = self.state.examples.get(id)
        if known is None:
            self.state.examples[id] = example
            return te.ExampleResult(id=id, outcome=te.ExampleResult.STORED)
        if known.image != example.image or known.label != example.label:
            reason = f"examples[{index}].id: has other content"
            return te.ExampleResult(id=id, outcome=te.ExampleResult.REFUSED, code=6, reason=reason)
        return te.ExampleResult(id=id, outcome=te.ExampleResult.DUPLICATE)


NAN = float("nan")
ACCURACY = te.Accuracy(
    all=0.95, old=NAN, new=0.95, average_incremental=0.95, forgetting=NAN, examples=20, new_examples=20
)


class Operation(_Entry, operation_pb2_grpc.OperationServicer):
    """Plain values in every field."""

    def GetStatus(self, request, context):  # noqa: N802
        self.enter("GetStatus", request, context)
        fields: dict[str, Any] = {
            "version": self.state.version,
            "active_version": self.state.version,
            "pinned": self.state.pinned,
            "classes": 2,
            "provisional_classes": 1,
            "phase": ty.BLOCKED if self.state.blocked else ty.TRAINING,
            "paused": self.state.paused,
            "learner_alive": True,
            "pending": 7,
            "oldest_pending_ms": 65_000,
            "exemplars": 40,
            "exemplar_bytes": 122_880,
            "exemplar_budget": 60,
            "holdout": 10,
            "engine": "onnxruntime CPUExecutionProvider",
            "method": "lucir",
            "release": "0.1.0",
            "store_alive": True,
            "store": "valkey 9.1.2",
            "input_shape": [32, 32, 3],
            "held_labels": ["moth"],
            "in_review": 3,
            "phase_reason": self.state.blocked,
            "unknown_rate": 0.05,
            "false_alarm_rate": 0.048,
            "node": "shop",
            "data_dir": "/srv/accrete",
            "deep": "kept, +2.1 points",
        }
        return op.GetStatusResponse(**fields | self.state.status)

    def ListServers(self, request, context):  # noqa: N802
        self.enter("ListServers", request, context)
        return op.ListServersResponse(servers=self.state.servers)

    def ListClasses(self, request, context):  # noqa: N802
        self.enter("ListClasses", request, context)
        return op.ListClassesResponse(classes=self.state.classes)

    def ListVersions(self, request, context):  # noqa: N802
        self.enter("ListVersions", request, context)
        ready = op.VersionInfo(
            version=1,
            state=op.VersionInfo.READY,
            active=True,
            pinned=self.state.pinned,
            created_ms=1_700_000_000_000,
            labels=["cat", "dog"],
            new_labels=["cat", "dog"],
            method="lucir",
            accuracy=ACCURACY,
            step_seconds=12.5,
            digest="ab",
        )
        rejected = op.VersionInfo(version=2, state=op.VersionInfo.REJECTED, parent=1, reason="old classes dropped")
        rejected.accuracy.CopyFrom(ACCURACY)
        rejected.gate.CopyFrom(op.Gate(old_before=0.9, old_after=math.nan, max_old_drop=0.1))
        return op.ListVersionsResponse(versions=[rejected, ready])

    def ActivateVersion(self, request, context):  # noqa: N802
        self.enter("ActivateVersion", request, context)
        if request.version > 1:
            Fault(code=grpc.StatusCode.NOT_FOUND, details=f"no version {request.version}").abort(context)
        self.state.pinned = not request.unpin
        return op.ActivateVersionResponse(version=1, pinned=self.state.pinned)

    def DiscardVersion(self, request, context):  # noqa: N802
        self.enter("DiscardVersion", request, context)
        return op.DiscardVersionResponse(base=request.version - 1, relearned=["moth"])

    def TriggerStep(self, request, context):  # noqa: N802
        self.enter("TriggerStep", request, context)
        if self.state.paused:
            Fault(code=grpc.StatusCode.FAILED_PRECONDITION, details="learning is paused").abort(context)
        return op.TriggerStepResponse(pending=0 if request.deep else 7)

    def PauseLearning(self, request, context):  # noqa: N802
        self.enter("PauseLearning", request, context)
        self.state.paused = True
        return op.PauseLearningResponse()

    def ResumeLearning(self, request, context):  # noqa: N802
        self.enter("ResumeLearning", request, context)
        self.state.paused = False
        return op.ResumeLearningResponse()

    def ListHeld(self, request, context):  # noqa: N802
        self.enter("ListHeld", request, context)
        return op.ListHeldResponse(labels=self.state.held)

    def ApproveLabel(self, request, context):  # noqa: N802
        self.enter("ApproveLabel", request, context)
        self._find_held(request.label, context, "owl")
        return op.ApproveLabelResponse(pending=2)

    def RetryHeld(self, request, context):  # noqa: N802
        self.enter("RetryHeld", request, context)
        self._find_held(request.label, context)
        return op.RetryHeldResponse(pending=7)

    def DropHeld(self, request, context):  # noqa: N802
        self.enter("DropHeld", request, context)
        self._find_held(request.label, context)
        return op.DropHeldResponse(dropped=7)

    def ListReview(self, request, context):  # noqa: N802
        self.enter("ListReview", request, context)
        burst = op.ReviewGroup(label="owl", principal="ann", reason="burst", examples=3, bytes=90, ids=["x", "y", "z"])
        return op.ListReviewResponse(groups=[burst])

    def ReleaseReview(self, request, context):  # noqa: N802
        self.enter("ReleaseReview", request, context)
        self._find_held(request.label, context, "owl")
        return op.ReleaseReviewResponse(released=3)

    def DropReview(self, request, context):  # noqa: N802
        self.enter("DropReview", request, context)
        if not (request.HasField("principal") and request.principal == "ann" and not request.HasField("label")):
            Fault(code=grpc.StatusCode.NOT_FOUND, details="no such example in review").abort(context)
        return op.DropReviewResponse(dropped=3)

    @staticmethod
    def _find_held(label: str, context: Any, held: str = "moth") -> None:
        if label != held:
            Fault(code=grpc.StatusCode.NOT_FOUND, details=f"no such label set aside: {label}").abort(context)

    def DeleteExamples(self, request, context):  # noqa: N802
        self.enter("DeleteExamples", request, context)
        known = [id for id in request.ids if self.state.examples.pop(id, None)]
        if not known:
            Fault(code=grpc.StatusCode.NOT_FOUND, details="none of the ids is known").abort(context)
        return op.DeleteExamplesResponse(deleted=len(known), unknown=[id for id in request.ids if id not in known])

    def ForgetClass(self, request, context):  # noqa: N802
        self.enter("ForgetClass", request, context)
        if request.label == "unheard":
            Fault(code=grpc.StatusCode.NOT_FOUND, details='no class "unheard"').abort(context)
        return op.ForgetClassResponse(pending_deleted=1, exemplars_deleted=2, holdout_deleted=3)


class MemoryServer:
    """All of it on a port of 127.0.0.1; may be stopped and started again there."""

    def __init__(self, tls: tuple[bytes, bytes] | None = None) -> None:
        """`tls`: private key and certificate (PEM)."""
        self.state = State()
        self._tls = tls
        self.port = 0
        self.health = health.HealthServicer()
        self._server: grpc.Server | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        self.state.stopping = False
        options = [
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.so_reuseport", 0),
            ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ]
        server = grpc.server(futures.ThreadPoolExecutor(16), options=options)
        prediction_pb2_grpc.add_PredictionServicer_to_server(Prediction(self.state), server)
        teaching_pb2_grpc.add_TeachingServicer_to_server(Teaching(self.state), server)
        operation_pb2_grpc.add_OperationServicer_to_server(Operation(self.state), server)
        health_pb2_grpc.add_HealthServicer_to_server(self.health, server)
        address = f"127.0.0.1:{self.port}"
        secure = grpc.ssl_server_credentials([self._tls]) if self._tls else None
        self.port = server.add_secure_port(address, secure) if secure else server.add_insecure_port(address)
        server.start()
        self._server = server

    def stop(self) -> None:
        with self.state.changed:
            self.state.stopping = True
            self.state.changed.notify_all()
        if self._server is not None:
            self._server.stop(0).wait()
            self._server = None

    def set_serving(self, serving: bool) -> None:
        response = health_pb2.HealthCheckResponse
        self.health.set("", response.SERVING if serving else response.NOT_SERVING)
