"""What a caller may give as an image or an example, and how it becomes a message.

Nothing is scaled, cropped or converted here beyond what is said: the server does that, so that all clients agree.
"""

from __future__ import annotations

import io
import os
import pathlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, TypeGuard

import numpy as np
from numpy.typing import NDArray

from ._errors import InvalidInput
from .v1 import teaching_pb2, types_pb2

_PNG_MODES = ("1", "L", "LA", "I;16", "P", "RGB", "RGBA")
_WIDE_MODES = ("F", "I")  # 32 bits a value; any of the above would clip them
_ORIENTATION = 0x0112  # the EXIF tag
_CHANNELS = (1, 3, 4)


class PillowImage(Protocol):
    """The part of `PIL.Image.Image` that is used; Pillow itself is never imported."""

    @property
    def mode(self) -> str: ...

    @property
    def size(self) -> tuple[int, int]: ...

    def save(self, fp: Any, format: str | None = None, **params: Any) -> None: ...

    def convert(self, mode: str) -> PillowImage: ...


ImageLike: TypeAlias = NDArray[Any] | bytes | bytearray | memoryview | str | os.PathLike[str] | PillowImage
"""One input of the model:

* an encoded JPEG, PNG, WebP or BMP file as bytes, or the path of one (`.npy`: an array);
* a uint8 array [height, width] or [height, width, 1 | 3 | 4]: grey, RGB, RGBA, values 0 to 255;
* a float array [length] for a model whose input is an embedding; sent as float32;
* a Pillow image, which is sent as PNG, without loss.
"""


@dataclass(frozen=True, slots=True)
class Example:
    """A labelled image to learn from."""

    label: str
    """1 to 256 bytes of UTF-8 without control characters."""
    image: ImageLike
    id: str = ""
    """1 to 128 characters; the same id is stored once. Empty: the server makes it from label and content, so that the
    same image is stored once under the same label."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """At most 16 entries, 1 KiB together."""


ExampleLike: TypeAlias = Example | tuple[str, ImageLike] | tuple[str, ImageLike, str]


def to_example(given: ExampleLike, index: int) -> Example:
    """An example from any of its forms. Raises InvalidInput naming the index: this is a mistake in the program."""
    if isinstance(given, Example):
        return given
    if isinstance(given, tuple) and len(given) in (2, 3) and isinstance(given[0], str):
        return Example(*given)
    raise InvalidInput(
        f"example {index} is {_described(given)}; an Example, (label, image) or (label, image, id) is allowed"
    )


def example_message(example: Example) -> teaching_pb2.Example:
    """The message of an example. Raises InvalidInput with a reason."""
    if not isinstance(example.id, str):
        raise InvalidInput(f"its id is {_described(example.id)}; a string is allowed")
    image = image_message(example.image)
    try:
        return teaching_pb2.Example(label=example.label, image=image, id=example.id, metadata=dict(example.metadata))
    except (TypeError, ValueError) as problem:  # a label that is no text, or not UTF-8; metadata that is not strings
        raise InvalidInput(f"its label or metadata cannot be sent: {problem}") from problem


def image_message(image: ImageLike) -> types_pb2.Image:
    """The message of an image. Raises InvalidInput with a reason that does not name the image."""
    if isinstance(image, np.ndarray):
        return types_pb2.Image(tensor=_tensor(image))
    if isinstance(image, bytes | bytearray | memoryview):
        return types_pb2.Image(encoded=bytes(image))
    if isinstance(image, str | os.PathLike):
        return _file(pathlib.Path(image))
    if is_pillow(image):
        return types_pb2.Image(encoded=_png(image))
    raise InvalidInput(f"{_described(image)}; an array, bytes, a path or a Pillow image is allowed")


def is_one(images: ImageLike | Iterable[ImageLike]) -> bool:
    """Whether this is one image rather than several."""
    return isinstance(images, np.ndarray | bytes | bytearray | memoryview | str | os.PathLike) or is_pillow(images)


def is_pillow(image: object) -> TypeGuard[PillowImage]:
    """By what it can do, so that Pillow need not be installed."""
    return all(hasattr(image, name) for name in ("mode", "size", "save", "convert"))


def is_quick(image: object) -> bool:
    """Whether making the message takes no file access and no encoding, so that an event loop may do it."""
    return isinstance(image, np.ndarray | bytes | bytearray | memoryview)


def to_ids(ids: Iterable[str]) -> list[str]:
    """Example ids. Raises InvalidInput for a single string, which would be taken for its characters."""
    if isinstance(ids, str):
        raise InvalidInput(f'ids is "{ids}"; a list of ids is allowed')
    return list(ids)


def source_of(image: object) -> str:
    """The path of an image that was given as one, for reports."""
    return os.fspath(image) if isinstance(image, str | os.PathLike) else ""


def _described(value: object) -> str:
    return f"a {type(value).__module__}.{type(value).__qualname__}".replace("builtins.", "")


def _tensor(array: NDArray[Any]) -> types_pb2.Tensor:
    if array.dtype == np.uint8:
        return _pixels(array)
    if array.ndim == 1 and np.issubdtype(array.dtype, np.floating):
        vector = np.ascontiguousarray(array, dtype="<f4")
        return types_pb2.Tensor(dtype=types_pb2.Tensor.FLOAT32, shape=vector.shape, data=vector.tobytes())
    raise InvalidInput(
        f"{array.dtype} array of shape {list(array.shape)}; "
        "uint8 images (values 0 to 255) or float32 vectors are allowed"
    )


def _pixels(array: NDArray[np.uint8]) -> types_pb2.Tensor:
    if array.ndim == 2 or (array.ndim == 3 and array.shape[2] in _CHANNELS):
        return types_pb2.Tensor(dtype=types_pb2.Tensor.UINT8, shape=array.shape, data=array.tobytes())
    hint = ""
    if array.ndim == 4:
        hint = "; for several images give a list of them"
    elif array.ndim == 3 and array.shape[0] in _CHANNELS:
        hint = "; channels come last"
    raise InvalidInput(
        f"uint8 array of shape {list(array.shape)}; [height, width] or [height, width, 1, 3 or 4] is allowed{hint}"
    )


def _file(path: pathlib.Path) -> types_pb2.Image:
    try:
        data = path.read_bytes()
    except OSError as problem:
        raise InvalidInput(f"{path}: {problem.strerror}") from problem
    if path.suffix.lower() != ".npy":
        return types_pb2.Image(encoded=data)
    try:
        return types_pb2.Image(tensor=_tensor(np.load(io.BytesIO(data), allow_pickle=False)))
    except (ValueError, EOFError, InvalidInput) as problem:
        raise InvalidInput(f"{path}: {problem}") from problem


def _png(image: PillowImage) -> bytes:
    """The image as a PNG file, with the EXIF orientation that it has: the server applies it, as it does for files."""
    if image.mode in _WIDE_MODES:
        raise InvalidInput(f'a Pillow image of mode "{image.mode}"; convert it to "L" or "RGB" first')
    buffer = io.BytesIO()
    try:
        exif = image.getexif() if hasattr(image, "getexif") else {}
        params = {"exif": exif} if exif.get(_ORIENTATION, 1) != 1 else {}
        if image.mode not in _PNG_MODES:
            image = image.convert("RGB")
        image.save(buffer, format="PNG", compress_level=1, **params)  # 1: most of the gain for a fraction of the time
    except (OSError, SyntaxError, ValueError) as problem:  # Pillow reads a file only now, and finds it damaged
        raise InvalidInput(f"a Pillow image that cannot be read: {problem}") from problem
    return buffer.getvalue()
