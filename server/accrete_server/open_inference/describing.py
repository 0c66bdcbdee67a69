"""What the server tells about itself and its model in the Open Inference Protocol."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from accrete.inference import model_config_pb2, service_pb2
from accrete_model.input_spec import InputSpec
from accrete_server.errors import Unknown
from accrete_server.metrics.statistics import VersionStatistics
from accrete_server.open_inference.inputs import BYTES, ModelInput
from accrete_server.open_inference.outputs import OUTPUTS
from accrete_server.versions.slots import View

NAME = "accrete"
"""Name of the server, the platform and the backend."""

EXTENSIONS = ("classification", "model_configuration", "statistics")
"""Triton's names of what there is beyond the protocol's core. perf_analyzer reads statistics only if told of them."""

SHARED_MEMORY = "system_shared_memory"
"""The same of what there is where it is offered."""

Config = model_config_pb2.ModelConfig
Metadata = service_pb2.ModelMetadataResponse


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """The properties of the model that all versions share."""

    name: str
    spec: InputSpec
    max_images: int
    at_once: int
    """Computations at once on a CPU."""
    unknown_rate: float
    """Rate of false alarms where the request names none; 0: nothing is called unknown."""

    @cached_property
    def input(self) -> ModelInput:
        """Its one input."""
        return ModelInput.of(self.spec)

    def check_name(self, name: str) -> None:
        """Check that a request means this model. Raises Unknown."""
        if name != self.name:
            raise Unknown(f"there is no model {name!r} here, only {self.name!r}")

    def check_version(self, version: str, live: View | None) -> None:
        """Check that a request means the live version; an empty text means whichever is live. Raises Unknown."""
        if version and (live is None or version != str(live.version)):
            now = f"the live one: {'none' if live is None else live.version}; name no version to get whichever is live"
            raise Unknown(f"version {version!r} of {self.name!r} is not live; {now}")


def metadata(model: ServedModel, live: View | None) -> Metadata:
    """Return names, types and shapes. The number of classes is not fixed, since it grows with each step."""
    tensor = Metadata.TensorMetadata
    taken = tensor(name=model.input.name, datatype=model.input.datatypes[0], shape=(-1, *model.spec.shape))
    return Metadata(
        name=model.name,
        versions=[] if live is None else [str(live.version)],
        platform=NAME,
        inputs=[taken],
        outputs=[tensor(name=name, datatype=kind, shape=(-1, size)) for name, (kind, size) in OUTPUTS.items()],
    )


def config(model: ServedModel, live: View | None) -> Config:
    """Return the configuration, as far as there is one to tell."""
    on_gpu = live is not None and live.slot.loaded.on_gpu
    group = model_config_pb2.ModelInstanceGroup
    made = Config(
        name=model.name,
        platform=NAME,
        backend=NAME,
        version_policy=model_config_pb2.ModelVersionPolicy(
            latest=model_config_pb2.ModelVersionPolicy.Latest(num_versions=1)
        ),
        max_batch_size=model.max_images,
        input=[_input(model)],
        output=[
            model_config_pb2.ModelOutput(name=name, data_type=_type(kind), dims=[size])
            for name, (kind, size) in OUTPUTS.items()
        ],
        instance_group=[
            group(name=NAME, count=1, kind=group.KIND_GPU)
            if on_gpu
            else group(name=NAME, count=model.at_once, kind=group.KIND_CPU)
        ],
        model_transaction_policy=model_config_pb2.ModelTransactionPolicy(decoupled=False),
    )
    if on_gpu:
        made.dynamic_batching.SetInParent()
    return made


def _input(model: ServedModel) -> model_config_pb2.ModelInput:
    kind = model_config_pb2.ModelInput
    return kind(
        name=model.input.name,
        data_type=_type(model.input.datatypes[0]),
        format=kind.FORMAT_NHWC if model.spec.is_image else kind.FORMAT_NONE,
        dims=model.spec.shape,
    )


def _type(datatype: str) -> model_config_pb2.DataType.ValueType:
    name = "STRING" if datatype == BYTES else datatype
    return model_config_pb2.DataType.Value(f"TYPE_{name}")


def statistics(name: str, own: VersionStatistics) -> service_pb2.ModelStatistics:
    """Return one version's sums on the wire."""

    def duration(count: int, seconds: float) -> service_pb2.StatisticDuration:
        return service_pb2.StatisticDuration(count=count, ns=round(seconds * 1e9))

    return service_pb2.ModelStatistics(
        name=name,
        version=str(own.version),
        last_inference=own.last_ms,
        inference_count=own.images,
        execution_count=own.executions,
        inference_stats=service_pb2.InferStatistics(
            success=duration(own.calls, own.total_s),
            fail=duration(sum(own.failed.values()), own.failed_s),
            queue=duration(own.calls, own.queue_s),
            compute_input=duration(own.calls, own.decode_s),
            compute_infer=duration(own.calls, own.compute_s),
            compute_output=duration(own.calls, own.output_s),
            cache_hit=duration(0, 0.0),
            cache_miss=duration(0, 0.0),
        ),
        batch_stats=[
            service_pb2.InferBatchStatistics(batch_size=size, compute_infer=duration(count, seconds))
            for size, (count, seconds) in sorted(own.batches.items())
        ],
    )
