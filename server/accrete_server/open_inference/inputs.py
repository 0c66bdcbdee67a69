"""From a request's input tensor to images as they were sent.

Shapes: N images; h, w, c of an image as sent; d of an embedding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from accrete.inference import service_pb2
from accrete_model.input_spec import InputSpec
from accrete_server.errors import InvalidInput
from accrete_server.images import ImageReader
from accrete_server.open_inference.shared_memory import PREFIX, Parameters, Part

Tensor = service_pb2.ModelInferRequest.InferInputTensor
FindShared = Callable[[Parameters], Part]
"""Returns where the bytes of a tensor in shared memory are."""

BYTES = "BYTES"
LENGTH = 4
"""Bytes of the little-endian length before each element of a raw BYTES tensor."""


@dataclass(frozen=True, kw_only=True)
class ModelInput:
    """The model's one input."""

    name: str
    datatypes: tuple[str, ...]
    """Those that may be sent. Metadata names the first; an image may also come encoded, as BYTES."""

    @classmethod
    def of(cls, spec: InputSpec) -> ModelInput:
        """Return the input of a model that takes `spec`."""
        if spec.is_image:
            return cls(name="image", datatypes=("UINT8", BYTES))
        return cls(name="embedding", datatypes=("FP32",))


class SentImages:
    """The one input of a request. Its form has been checked, its content has not been looked at."""

    def __init__(self, request: service_pb2.ModelInferRequest, expected: ModelInput, find_shared: FindShared) -> None:
        """Check the form. Raises InvalidInput naming what is wrong, and what `find_shared` raises."""
        tensor = _only_input(request)
        if tensor.name != expected.name or tensor.datatype not in expected.datatypes:
            taken = f"this model takes {expected.name!r} of {' or '.join(expected.datatypes)}"
            raise InvalidInput(f"inputs[0]: {tensor.name!r} of {tensor.datatype!r}; {taken}")
        shape = list(tensor.shape)
        _check_shape(tensor, shape)
        self.name: str = tensor.name
        self.datatype: str = tensor.datatype
        self.count: int = shape[0]
        """Images, as the shape says: any number."""
        self.shape = shape[1:]
        """Shape of one image, where it is not encoded."""
        self._tensor = tensor
        shared = _is_shared(request, tensor)
        self._shared = find_shared(tensor.parameters) if shared else None
        self._raw = None if shared else _raw_content(request, tensor)

    @property
    def is_shared(self) -> bool:
        """Whether they are in shared memory, from where reading them takes time."""
        return self._shared is not None

    def split(self) -> Sequence[bytes | memoryview]:
        """Return each image's own bytes, those of pixels where they lie. From shared memory they are read now.

        Raises:
            InvalidInput: there are more or fewer than the shape says, or shared memory has become smaller.
        """
        raw = self._raw if self._shared is None else self._shared.read()
        if self.datatype != BYTES:
            data = _typed_content(self._tensor) if raw is None else raw
            size = math.prod(self.shape) * (4 if self.datatype == "FP32" else 1)
            return _parts(data, self.count, size, self.name)
        if raw is not None:
            return _elements(raw, self.count, self.name)
        elements = list(self._tensor.contents.bytes_contents)
        if len(elements) != self.count:
            raise InvalidInput(f"{self.name}: {len(elements)} elements; the shape says {self.count}")
        return elements

    def decode(self, data: bytes | memoryview, reader: ImageReader) -> NDArray[Any]:
        """Return the model's input of one image's bytes. Raises BadImage."""
        if self.datatype == BYTES:
            return reader.encoded(bytes(data))
        read = reader.vector if self.datatype == "FP32" else reader.pixels
        return read(self.shape, cast(bytes, data))  # numpy reads both alike


def _only_input(request: service_pb2.ModelInferRequest) -> Tensor:
    if len(request.inputs) != 1:
        raise InvalidInput(f"inputs: {len(request.inputs)} tensors; this model takes one")
    return request.inputs[0]


def _check_shape(tensor: Tensor, shape: list[int]) -> None:
    if tensor.datatype == BYTES and not (len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)):
        raise InvalidInput(f"{tensor.name}: BYTES of shape {shape}; [N] or [N, 1] are allowed")
    if len(shape) < 1 or min(shape[1:], default=1) < 1:
        raise InvalidInput(f"{tensor.name}: shape {shape}; the first size is that of the batch, and none is below 1")


def _is_shared(request: service_pb2.ModelInferRequest, tensor: Tensor) -> bool:
    """Return whether the content is in shared memory. Raises InvalidInput when it is in the message, too."""
    if not any(key.startswith(PREFIX) for key in tensor.parameters):
        return False
    if request.raw_input_contents or tensor.contents.ByteSize():
        raise InvalidInput("inputs[0]: in shared memory, and in the message, too; one of them is allowed")
    return True


def _raw_content(request: service_pb2.ModelInferRequest, tensor: Tensor) -> bytes | None:
    """Return the raw content; None when the tensor's content is in its typed form."""
    if not request.raw_input_contents:
        return None
    if len(request.raw_input_contents) != 1:
        raise InvalidInput(f"raw_input_contents: {len(request.raw_input_contents)}; there is one input")
    if tensor.contents.ByteSize():
        raise InvalidInput("contents and raw_input_contents are both given; one of them is allowed")
    return request.raw_input_contents[0]


def _typed_content(tensor: Tensor) -> bytes:
    if tensor.datatype == "FP32":
        return np.array(tensor.contents.fp32_contents, "<f4").tobytes()
    values = np.array(tensor.contents.uint_contents, np.uint32)
    if values.max(initial=0) > 255:
        raise InvalidInput(f"{tensor.name}: a UINT8 of {values.max()}")
    return values.astype(np.uint8).tobytes()


def _parts(data: bytes, count: int, size: int, name: str) -> list[memoryview]:
    if len(data) != count * size:
        raise InvalidInput(f"{name}: {len(data)} bytes; the shape says {count} times {size}")
    whole = memoryview(data)
    return [whole[start : start + size] for start in range(0, len(data), size)]


def _elements(data: bytes, count: int, name: str) -> list[bytes]:
    """Return the elements of a raw BYTES tensor."""
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
