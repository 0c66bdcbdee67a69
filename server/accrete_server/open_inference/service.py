"""The service GRPCInferenceService: other names for what Predict does, on the same way to the engine."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib import metadata

import grpc

from accrete.inference import service_pb2, service_pb2_grpc
from accrete_server.errors import InvalidInput, ModelNotReady, Unknown
from accrete_server.images import ImageReader
from accrete_server.metrics.statistics import Statistics
from accrete_server.open_inference import describing, outputs
from accrete_server.open_inference.describing import ServedModel
from accrete_server.open_inference.inputs import SentImages
from accrete_server.predict.admission import Call
from accrete_server.predict.service import Answering, check_unknown_rate
from accrete_server.versions.slots import TEACH_FIRST, Slots, View

_UNKNOWN_RATE, _FALSE_ALARM_RATE = "unknown_rate", "false_alarm_rate"
"""Parameters of a request and of its answer: Predict's fields of these names."""


class OpenInference(service_pb2_grpc.GRPCInferenceServiceServicer):
    """One model, whose one version to ask for is the live one."""

    def __init__(
        self,
        model: ServedModel,
        slots: Slots,
        answering: Answering,
        reader: ImageReader,
        statistics: Statistics,
        is_ready: Callable[[], bool],
    ) -> None:
        """`is_ready`: whether the server takes calls."""
        self._model = model
        self._slots = slots
        self._answering = answering
        self._reader = reader
        self._statistics = statistics
        self._is_ready = is_ready

    # The names of the methods are the protocol's.

    def ServerLive(  # noqa: N802
        self, request: service_pb2.ServerLiveRequest, context: grpc.ServicerContext
    ) -> service_pb2.ServerLiveResponse:
        """Alive, since it answers."""
        return service_pb2.ServerLiveResponse(live=True)

    def ServerReady(  # noqa: N802
        self, request: service_pb2.ServerReadyRequest, context: grpc.ServicerContext
    ) -> service_pb2.ServerReadyResponse:
        """Whether it takes calls; before the first version, too: examples come by the same port."""
        return service_pb2.ServerReadyResponse(ready=self._is_ready())

    def ModelReady(  # noqa: N802
        self, request: service_pb2.ModelReadyRequest, context: grpc.ServicerContext
    ) -> service_pb2.ModelReadyResponse:
        """Whether that model and version would answer."""
        try:
            live = self._find(request.name, request.version)
        except Unknown:
            live = None
        return service_pb2.ModelReadyResponse(ready=live is not None and bool(live.answers.labels))

    def ServerMetadata(  # noqa: N802
        self, request: service_pb2.ServerMetadataRequest, context: grpc.ServicerContext
    ) -> service_pb2.ServerMetadataResponse:
        """Name, release, extensions."""
        return service_pb2.ServerMetadataResponse(
            name=describing.NAME, version=metadata.version("accrete"), extensions=describing.EXTENSIONS
        )

    def ModelMetadata(  # noqa: N802
        self, request: service_pb2.ModelMetadataRequest, context: grpc.ServicerContext
    ) -> service_pb2.ModelMetadataResponse:
        """Inputs and outputs."""
        return describing.metadata(self._model, self._find(request.name, request.version))

    def ModelConfig(  # noqa: N802
        self, request: service_pb2.ModelConfigRequest, context: grpc.ServicerContext
    ) -> service_pb2.ModelConfigResponse:
        """The configuration in Triton's form."""
        live = self._find(request.name, request.version)
        return service_pb2.ModelConfigResponse(config=describing.config(self._model, live))

    def ModelInfer(  # noqa: N802
        self, request: service_pb2.ModelInferRequest, context: grpc.ServicerContext
    ) -> service_pb2.ModelInferResponse:
        """Labels, probabilities and marks of each image."""
        started = time.perf_counter()
        self._find(request.model_name, request.model_version)
        call = _call(request, context)
        wanted, sent = outputs.wanted_outputs(request), SentImages(request, self._model.spec)
        rate = _asked_rate(request) or self._model.unknown_rate
        self._answering.check(sent.count, sent.name)
        if self._slots.live is None:
            raise ModelNotReady(TEACH_FIRST)
        computed = self._answering.compute(sent.split(), sent.reading(self._reader), call, sent.name)
        self._check_version(request.model_version, computed.view)  # it may have gone while the call stood in line
        response = service_pb2.ModelInferResponse(
            model_name=self._model.name, model_version=str(computed.view.version), id=request.id
        )
        named = any(output.name == outputs.UNKNOWN for output in wanted)
        unknown, false_alarm_rate = self._answering.unknown(computed, rate if named else 0.0)
        if named and rate:
            response.parameters[_FALSE_ALARM_RATE].double_param = false_alarm_rate
        outputs.fill(response, wanted, computed, unknown)
        self._answering.count(computed, started)
        return response

    def ModelStatistics(  # noqa: N802
        self, request: service_pb2.ModelStatisticsRequest, context: grpc.ServicerContext
    ) -> service_pb2.ModelStatisticsResponse:
        """Counts and durations of the versions that answered last."""
        if request.name:
            self._check_name(request.name)
        known = [own for own in self._statistics.snapshot() if request.version in ("", str(own.version))]
        if request.version and not known:
            raise Unknown(f"version {request.version!r} of {self._model.name!r} has not answered of late")
        return service_pb2.ModelStatisticsResponse(
            model_stats=[describing.statistics(self._model.name, own) for own in known]
        )

    def RepositoryIndex(  # noqa: N802
        self, request: service_pb2.RepositoryIndexRequest, context: grpc.ServicerContext
    ) -> service_pb2.RepositoryIndexResponse:
        """The model with its live version."""
        index, live = service_pb2.RepositoryIndexResponse(), self._slots.live
        if live is not None:
            index.models.add(name=self._model.name, version=str(live.version), state="READY")
        elif not request.ready:
            index.models.add(name=self._model.name, state="UNAVAILABLE", reason=TEACH_FIRST)
        return index

    def _find(self, name: str, version: str) -> View | None:
        """The live view; None before the first version. Raises Unknown for another model or version."""
        self._check_name(name)
        live = self._slots.live
        self._check_version(version, live)
        return live

    def _check_name(self, name: str) -> None:
        if name != self._model.name:
            raise Unknown(f"there is no model {name!r} here, only {self._model.name!r}")

    def _check_version(self, version: str, live: View | None) -> None:
        if version and (live is None or version != str(live.version)):
            now = f"the live one: {'none' if live is None else live.version}; name no version to get whichever is live"
            raise Unknown(f"version {version!r} of {self._model.name!r} is not live; {now}")


def _call(request: service_pb2.ModelInferRequest, context: grpc.ServicerContext) -> Call:
    """The call with the request's own deadline. Raises InvalidInput for parameters that would change the answer."""
    given = request.parameters
    if any(key.startswith("sequence_") for key in given):
        raise InvalidInput("parameters: sequence_*: this model keeps no state between requests")
    timeout = given["timeout"].int64_param if "timeout" in given else 0
    return _Hurried(context, timeout / 1e6) if timeout > 0 else context


def _asked_rate(request: service_pb2.ModelInferRequest) -> float:
    """The rate of false alarms that the request names, in whichever form its client has for numbers; 0: none. Raises
    InvalidInput."""
    if _UNKNOWN_RATE not in request.parameters:
        return 0.0
    given = request.parameters[_UNKNOWN_RATE]
    value = getattr(given, given.WhichOneof("parameter_choice") or "string_param")
    try:
        return check_unknown_rate(float(value))
    except ValueError as problem:
        raise InvalidInput(f"parameters: unknown_rate: {value!r}; a number is allowed") from problem


class _Hurried:
    """A call whose caller gave a deadline in the request, beside gRPC's own."""

    def __init__(self, context: grpc.ServicerContext, timeout_s: float) -> None:
        self._context = context
        self._until = time.monotonic() + timeout_s

    def is_active(self) -> bool:
        """Whether the caller still waits."""
        return self._context.is_active()

    def time_remaining(self) -> float | None:
        """Seconds until the nearer deadline."""
        remaining, own = self._context.time_remaining(), self._until - time.monotonic()
        return own if remaining is None else min(remaining, own)

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """Runs `callback` when the call ends."""
        return self._context.add_callback(callback)
