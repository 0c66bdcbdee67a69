"""From a request's input tensor to images as they were sent.

Shapes: N images; h, w, c of an image as sent; d of an embedding.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accrete.inference import service_pb2
from accrete_model.input_spec import InputSpec
from accrete_server.errors import InvalidInput
from accrete_server.images import ImageReader

Tensor = service_pb2.ModelInferRequest.InferInputTensor

BYTES = "BYTES"
LENGTH = 4
"""Bytes of the little-endian length before each element of a raw BYTES tensor."""


def input_name(spec: InputSpec) -> str:
    """What the model's input is called."""
    return "image" if spec.is_image else "embedding"


def input_datatype(spec: InputSpec) -> str:
    """The datatype that metadata names; an image may also come encoded, as BYTES."""
    return "UINT8" if spec.is_image else "FP32"


class SentImages:
    """The one input of a request, its form checked and its content not yet looked at."""

    def __init__(self, request: service_pb2.ModelInferRequest, spec: InputSpec) -> None:
        """Raises InvalidInput naming what is wrong."""
        tensor, name = _only_input(request), input_name(spec)
        allowed = (input_datatype(spec), BYTES) if spec.is_image else (input_datatype(spec),)
        if tensor.name != name or tensor.datatype not in allowed:
            taken = f"this model takes {name!r} of {' or '.join(allowed)}"
            raise InvalidInput(f"inputs[0]: {tensor.name!r} of {tensor.datatype!r}; {taken}")
        _check_shape(tensor)
        self.name = name
        self._tensor = tensor
        self._raw = _raw_content(request, tensor)

    @property
    def count(self) -> int:
        """Images, as the shape says: any number."""
        return self._tensor.shape[0]

    def split(self) -> list[bytes]:
        """Each image's own bytes. Raises InvalidInput when there are more or fewer than the shape says."""
        count = self.count
        if self._tensor.datatype != BYTES:
            data = _typed_content(self._tensor) if self._raw is None else self._raw
            return _parts(data, count, _size(self._tensor), self.name)
        if self._raw is not None:
            return _elements(self._raw, count, self.name)
        elements = list(self._tensor.contents.bytes_contents)
        if len(elements) != count:
            raise InvalidInput(f"{self.name}: {len(elements)} elements; the shape says {count}")
        return elements

    def reading(self, reader: ImageReader) -> Callable[[bytes], NDArray[Any]]:
        """What makes the model's input of each part; it raises BadImage."""
        if self._tensor.datatype == BYTES:
            return reader.encoded
        take, shape = reader.vector if self._tensor.datatype == "FP32" else reader.pixels, list(self._tensor.shape)[1:]
        return lambda data: take(shape, data)


def _only_input(request: service_pb2.ModelInferRequest) -> Tensor:
    if len(request.inputs) != 1:
        raise InvalidInput(f"inputs: {len(request.inputs)} tensors; this model takes one")
    tensor = request.inputs[0]
    if any(key.startswith("shared_memory") for key in tensor.parameters):
        raise InvalidInput("inputs[0]: shared memory is not offered; send the tensor in the message")
    return tensor


def _check_shape(tensor: Tensor) -> None:
    shape = list(tensor.shape)
    if tensor.datatype == BYTES and not (len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)):
        raise InvalidInput(f"{tensor.name}: BYTES of shape {shape}; [N] or [N, 1] are allowed")
    if len(shape) < 1 or min(shape[1:], default=1) < 1:
        raise InvalidInput(f"{tensor.name}: shape {shape}; the first size is that of the batch, and none is below 1")


def _raw_content(request: service_pb2.ModelInferRequest, tensor: Tensor) -> bytes | None:
    """None: the tensor's content is in its typed form."""
    if not request.raw_input_contents:
        return None
    if len(request.raw_input_contents) != 1:
        raise InvalidInput(f"raw_input_contents: {len(request.raw_input_contents)}; there is one input")
    if tensor.contents.ByteSize():
        raise InvalidInput("contents and raw_input_contents are both given; one of them is allowed")
    return request.raw_input_contents[0]


def _size(tensor: Tensor) -> int:
    """Bytes of one image."""
    return math.prod(list(tensor.shape)[1:]) * (4 if tensor.datatype == "FP32" else 1)


def _typed_content(tensor: Tensor) -> bytes:
    if tensor.datatype == "FP32":
        return np.array(tensor.contents.fp32_contents, "<f4").tobytes()
    values = np.array(tensor.contents.uint_contents, np.uint32)
    if values.max(initial=0) > 255:
        raise InvalidInput(f"{tensor.name}: a UINT8 of {values.max()}")
    return values.astype(np.uint8).tobytes()


def _parts(data: bytes, count: int, size: int, name: str) -> list[bytes]:
    if len(data) != count * size:
        raise InvalidInput(f"{name}: {len(data)} bytes; the shape says {count} times {size}")
    return [data[start : start + size] for start in range(0, len(data), size)]


def _elements(data: bytes, count: int, name: str) -> list[bytes]:
    """The elements of a raw BYTES tensor."""
    found, end = [], 0
    for index in range(count):
        start = end + LENGTH
        end = start + int.from_bytes(data[end:start], "little")
        if end > len(data):
            raise InvalidInput(f"{name}[{index}]: the raw content ends before the element does")
        found.append(data[start:end])
    if end != len(data):
        raise InvalidInput(f"{name}: {len(data) - end} bytes are left after {count} elements")
    return found
