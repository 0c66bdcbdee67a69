"""From what was computed to the response's output tensors, always in the raw form, which all clients read.

Shapes: N images; C classes that the version ranks; K of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accrete.inference import service_pb2
from accrete_server.errors import InvalidInput
from accrete_server.open_inference.inputs import BYTES, LENGTH
from accrete_server.predict.batcher import Computed

LABEL, PROBABILITIES, PROVISIONAL, UNKNOWN = "label", "probabilities", "provisional", "unknown"
CLASSIFICATION = "classification"

OUTPUTS: dict[str, tuple[str, int]] = {
    LABEL: (BYTES, 1),
    PROBABILITIES: ("FP32", -1),
    PROVISIONAL: ("BOOL", 1),
    UNKNOWN: ("BOOL", 1),
}
"""By name: the datatype, and the size after the batch's; -1: the number of classes, which grows."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """An output that was asked for."""

    name: str
    classes: int = 0
    """How many classes `probabilities` names, as texts "value:index:label"; 0: it has the numbers of all classes."""


_ALL = [Wanted(name=name) for name in OUTPUTS]


@dataclass(frozen=True, kw_only=True)
class _Output:
    """One output's elements."""

    datatype: str
    shape: tuple[int, ...]
    data: bytes


def wanted_outputs(request: service_pb2.ModelInferRequest) -> list[Wanted]:
    """Return what the response is to hold: all outputs when none is named. Raises InvalidInput for one that there is
    not."""
    return [_wanted(output) for output in request.outputs] or _ALL


def fill(
    response: service_pb2.ModelInferResponse, wanted: Iterable[Wanted], computed: Computed, unknown: NDArray[np.bool_]
) -> None:
    """Add each output to the response. `unknown`: which images are near no class [N]."""
    for output in wanted:
        made = _make(output, computed, unknown)
        response.outputs.add(name=output.name, datatype=made.datatype, shape=made.shape)
        response.raw_output_contents.append(made.data)


def _wanted(output: service_pb2.ModelInferRequest.InferRequestedOutputTensor) -> Wanted:
    if output.name not in OUTPUTS:
        raise InvalidInput(f"outputs: {output.name!r}; there are {', '.join(OUTPUTS)}")
    if any(key.startswith("shared_memory") for key in output.parameters):
        raise InvalidInput(f"outputs: {output.name}: shared memory is not offered; answers come in the message")
    if CLASSIFICATION not in output.parameters:
        return Wanted(name=output.name)
    classes = output.parameters[CLASSIFICATION].int64_param
    if output.name != PROBABILITIES or classes < 1:
        raise InvalidInput(
            f"outputs: {output.name}: classification {classes}; 1 or more are allowed, of {PROBABILITIES}"
        )
    return Wanted(name=output.name, classes=classes)


def _make(wanted: Wanted, computed: Computed, unknown: NDArray[np.bool_]) -> _Output:
    count = len(computed.probabilities)
    if wanted.classes:
        return _classified(computed, wanted.classes)
    if wanted.name == PROBABILITIES:
        numbers = computed.probabilities.astype("<f4", copy=False)
        return _Output(datatype="FP32", shape=numbers.shape, data=numbers.tobytes())
    if wanted.name == UNKNOWN:
        return _Output(datatype="BOOL", shape=(count, 1), data=unknown.tobytes())
    best, labels = computed.ranked(1), computed.view.classifier.labels
    if wanted.name == PROVISIONAL:
        return _Output(datatype="BOOL", shape=(count, 1), data=bytes(row[0][2] for row in best))
    return _Output(datatype=BYTES, shape=(count, 1), data=_packed(labels[row[0][0]] for row in best))


def _classified(computed: Computed, classes: int) -> _Output:
    """Return the K most probable classes of each image, as texts."""
    ranked, labels = computed.ranked(classes), computed.view.classifier.labels  # [N, K]
    texts = (f"{value:f}:{index}:{labels[index]}" for row in ranked for index, value, _ in row)
    return _Output(datatype=BYTES, shape=(len(ranked), len(ranked[0])), data=_packed(texts))


def _packed(texts: Iterable[str]) -> bytes:
    elements = (text.encode() for text in texts)
    return b"".join(part for data in elements for part in (len(data).to_bytes(LENGTH, "little"), data))
