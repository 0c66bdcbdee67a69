"""The service GRPCInferenceService of the Open Inference Protocol: other names for what Predict does, on the same
pipeline."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import metadata

import grpc

from accrete.inference import service_pb2, service_pb2_grpc
from accrete_server.errors import Unknown
from accrete_server.images import ImageReader
from accrete_server.metrics.statistics import Statistics
from accrete_server.open_inference import describing
from accrete_server.open_inference.describing import ServedModel
from accrete_server.open_inference.query import InferQuery
from accrete_server.open_inference.shared_memory import Caller, SharedMemory
from accrete_server.predict.pipeline import Answer
from accrete_server.versions.slots import TEACH_FIRST, Slots, View


class OpenInference(service_pb2_grpc.GRPCInferenceServiceServicer):
    """The service of one model, whose live version is the only one to ask for."""

    def __init__(
        self,
        model: ServedModel,
        slots: Slots,
        answer: Answer,
        reader: ImageReader,
        statistics: Statistics,
        shared_memory: SharedMemory,
        is_ready: Callable[[], bool],
    ) -> None:
        """Serve from `slots` through `answer`. `is_ready` returns whether the server takes calls."""
        self._model = model
        self._slots = slots
        self._answer = answer
        self._reader = reader
        self._statistics = statistics
        self._shared_memory = shared_memory
        self._is_ready = is_ready

    def query(self, request: service_pb2.ModelInferRequest, caller: Caller) -> InferQuery:
        """Return what a request of a caller asks. Raises what `InferQuery` does."""
        find_shared = partial(self._shared_memory.find, caller)
        return InferQuery(request, self._model, self._slots.live, self._reader, find_shared)

    # The names of the methods are the protocol's.

    def ServerLive(  # noqa: N802
        self, request: service_pb2.ServerLiveRequest, context: grpc.ServicerContext
    ) -> service_pb2.ServerLiveResponse:
        """Say that the server is alive, since it responds."""
        return service_pb2.ServerLiveResponse(live=True)

    def ServerReady(  # noqa: N802
        self, request: service_pb2.ServerReadyRequest, context: grpc.ServicerContext
    ) -> service_pb2.ServerReadyResponse:
        """Say whether it takes calls. It does before the first version, too, because examples come by the same port."""
        return service_pb2.ServerReadyResponse(ready=self._is_ready())

    def ModelReady(  # noqa: N802
        self, request: service_pb2.ModelReadyRequest, context: grpc.ServicerContext
    ) -> service_pb2.ModelReadyResponse:
        """Say whether that model and version can be asked."""
        try:
            live = self._find(request.name, request.version)
        except Unknown:
            live = None
        return service_pb2.ModelReadyResponse(ready=live is not None and bool(live.classifier.labels))

    def ServerMetadata(  # noqa: N802
        self, request: service_pb2.ServerMetadataRequest, context: grpc.ServicerContext
    ) -> service_pb2.ServerMetadataResponse:
        """Return name, release and extensions."""
        extensions = [*describing.EXTENSIONS, *[describing.SHARED_MEMORY] * self._shared_memory.offered]
        return service_pb2.ServerMetadataResponse(
            name=describing.NAME, version=metadata.version("accrete"), extensions=extensions
        )

    def ModelMetadata(  # noqa: N802
        self, request: service_pb2.ModelMetadataRequest, context: grpc.ServicerContext
    ) -> service_pb2.ModelMetadataResponse:
        """Return inputs and outputs."""
        return describing.metadata(self._model, self._find(request.name, request.version))

    def ModelConfig(  # noqa: N802
        self, request: service_pb2.ModelConfigRequest, context: grpc.ServicerContext
    ) -> service_pb2.ModelConfigResponse:
        """Return the configuration in Triton's form."""
        live = self._find(request.name, request.version)
        return service_pb2.ModelConfigResponse(config=describing.config(self._model, live))

    def ModelInfer(  # noqa: N802
        self, request: service_pb2.ModelInferRequest, context: grpc.ServicerContext
    ) -> service_pb2.ModelInferResponse:
        """Return labels, probabilities and marks of each image."""
        response: service_pb2.ModelInferResponse = self._answer(partial(self.query, request, context), context)
        return response

    def ModelStatistics(  # noqa: N802
        self, request: service_pb2.ModelStatisticsRequest, context: grpc.ServicerContext
    ) -> service_pb2.ModelStatisticsResponse:
        """Return counts and durations of the versions that answered last."""
        if request.name:
            self._model.check_name(request.name)
        known = [own for own in self._statistics.snapshot() if request.version in ("", str(own.version))]
        if request.version and not known:
            raise Unknown(f"version {request.version!r} of {self._model.name!r} has not answered of late")
        return service_pb2.ModelStatisticsResponse(
            model_stats=[describing.statistics(self._model.name, own) for own in known]
        )

    def RepositoryIndex(  # noqa: N802
        self, request: service_pb2.RepositoryIndexRequest, context: grpc.ServicerContext
    ) -> service_pb2.RepositoryIndexResponse:
        """Return the model with its live version."""
        index, live = service_pb2.RepositoryIndexResponse(), self._slots.live
        if live is not None:
            index.models.add(name=self._model.name, version=str(live.version), state="READY")
        elif not request.ready:
            index.models.add(name=self._model.name, state="UNAVAILABLE", reason=TEACH_FIRST)
        return index

    def SystemSharedMemoryStatus(  # noqa: N802
        self, request: service_pb2.SystemSharedMemoryStatusRequest, context: grpc.ServicerContext
    ) -> service_pb2.SystemSharedMemoryStatusResponse:
        """Return the regions of shared memory that are registered."""
        response = service_pb2.SystemSharedMemoryStatusResponse()
        for region in self._shared_memory.registered(context, request.name):
            found = response.regions[region.name]
            found.name, found.key, found.offset, found.byte_size = region.name, region.key, region.offset, region.size
        return response

    def SystemSharedMemoryRegister(  # noqa: N802
        self, request: service_pb2.SystemSharedMemoryRegisterRequest, context: grpc.ServicerContext
    ) -> service_pb2.SystemSharedMemoryRegisterResponse:
        """Take inputs from a region from now on."""
        self._shared_memory.register(context, request.name, request.key, request.offset, request.byte_size)
        return service_pb2.SystemSharedMemoryRegisterResponse()

    def SystemSharedMemoryUnregister(  # noqa: N802
        self, request: service_pb2.SystemSharedMemoryUnregisterRequest, context: grpc.ServicerContext
    ) -> service_pb2.SystemSharedMemoryUnregisterResponse:
        """Take none from it from now on."""
        self._shared_memory.unregister(context, request.name)
        return service_pb2.SystemSharedMemoryUnregisterResponse()

    def _find(self, name: str, version: str) -> View | None:
        """Return the live view, None before the first version. Raises Unknown for another model or version."""
        self._model.check_name(name)
        live = self._slots.live
        self._model.check_version(version, live)
        return live
