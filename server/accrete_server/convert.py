"""Images on the wire to the model's input: the one place that knows both."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from accrete.v1 import types_pb2
from accrete_server.images import BadImage, ImageReader


def read_image(image: types_pb2.Image, reader: ImageReader) -> NDArray[Any]:
    """The model's input from an image on the wire. Raises BadImage."""
    content = image.WhichOneof("content")
    if content == "encoded":
        return reader.encoded(image.encoded)
    if content != "tensor":
        raise BadImage("empty: neither encoded bytes nor a tensor")
    tensor = image.tensor
    if tensor.dtype == types_pb2.Tensor.UINT8:
        return reader.pixels(tensor.shape, tensor.data)
    if tensor.dtype == types_pb2.Tensor.FLOAT32:
        return reader.vector(tensor.shape, tensor.data)
    raise BadImage(f"tensor of unknown dtype {tensor.dtype}; UINT8 and FLOAT32 are allowed")
