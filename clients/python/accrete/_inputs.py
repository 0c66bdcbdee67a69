"""What a caller may give as an image or an example, and how it becomes a message.

Nothing is scaled, cropped or converted here beyond what is said. The server does that, so that all clients agree.
"""

from __future__ import annotations

import io
import os
import pathlib
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from numbers import Number
from typing import Any, Protocol, TypeAlias, TypeGuard, cast

import numpy as np
from numpy.typing import NDArray

from ._errors import InvalidInput
from .v1 import teaching_pb2, types_pb2

_PNG_MODES = ("1", "L", "LA", "I;16", "P", "RGB", "RGBA")
_WIDE_MODES = ("F", "I")  # 32 bits a value; any of the above would clip them
_ORIENTATION = 0x0112  # the EXIF tag
_CHANNELS = (1, 3, 4)


class PillowImage(Protocol):
    """The part of `PIL.Image.Image` that is used. Pillow itself is never imported."""

    @property
    def mode(self) -> str: ...

    @property
    def size(self) -> tuple[int, int]: ...

    def save(self, fp: Any, format: str | None = None, **params: Any) -> None: ...

    def convert(self, mode: str) -> PillowImage: ...


ImageLike: TypeAlias = NDArray[Any] | bytes | bytearray | memoryview | str | os.PathLike[str] | PillowImage
"""One input of the model, as one of these:

* an encoded JPEG, PNG, WebP, BMP or AVIF file as bytes (HEIC, where the server has its extra), or the path of one, or
  of an array (`.npy`);
* a uint8 array [height, width] or [height, width, 1 | 3 | 4] (grey, RGB, RGBA), with values 0 to 255;
* a float array [length], sent as float32, for a model whose input is an embedding;
* a Pillow image, which is sent as PNG, without loss.
"""


@dataclass(frozen=True, slots=True)
class Example:
    """A labelled image to learn from."""

    label: str
    """1 to 256 bytes of UTF-8 without control characters."""
    image: ImageLike
    id: str = ""
    """1 to 128 characters; the same id is stored once. If it is empty, the server makes it from the label and the
    image as sent, so that the same file is stored once under the same label."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """At most 16 entries, 1 KiB together."""


ExampleLike: TypeAlias = Example | tuple[str, ImageLike] | tuple[str, ImageLike, str]


def to_example(given: ExampleLike, index: int) -> Example:
    """Return an example from any of its forms. Raises InvalidInput that names its index."""
    if isinstance(given, Example):
        return given
    if isinstance(given, tuple) and len(given) in (2, 3) and not _is_content(given[0]):
        return Example(*given)
    raise InvalidInput(
        f"example {index} is {_described(given)}; an Example, (label, image) or (label, image, id) is allowed"
    )


def fill_example(message: teaching_pb2.Example, example: Example) -> None:
    """Fill the message of an example. Raises InvalidInput with a reason."""
    check_label(example.label, "its label")
    _check_text(example.id, "its id", "ids")
    fill_image(message.image, example.image)
    try:
        message.label = example.label
        message.id = example.id
        if example.metadata:
            message.metadata.update(example.metadata)
    except (AttributeError, TypeError, ValueError) as error:  # not UTF-8; metadata that is not strings
        raise InvalidInput(f"its label, id or metadata cannot be sent: {error}") from error


def check_label(label: object, name: str = "label") -> None:
    """Raise InvalidInput for a label that is no text, such as a number, or none in UTF-8."""
    _check_text(label, name, "labels")


def _check_text(value: object, name: str, kind: str) -> None:
    if not isinstance(value, str):
        raise InvalidInput(f"{name} is {_told(value)}; {kind} are text{_quoted(value)}")
    try:
        value.encode()
    except UnicodeEncodeError as error:  # of a command line or a file name in another encoding
        raise InvalidInput(f"{name} cannot be sent, for it is no UTF-8: {error}") from error


def image_message(image: ImageLike) -> types_pb2.Image:
    """Return the message of an image. Raises as `fill_image`."""
    message = types_pb2.Image()
    fill_image(message, image)
    return message


def fill_image(message: types_pb2.Image, image: ImageLike) -> None:
    """Fill the message of an image, in its place in a larger one.

    To put it there later would copy it, which takes longer than to make it.

    Raises:
        InvalidInput: with a reason that does not name the image.
    """
    if isinstance(image, np.ndarray):
        _fill_tensor(message.tensor, image)
    elif isinstance(image, bytes | bytearray | memoryview):
        message.encoded = bytes(image)
    elif isinstance(image, str | os.PathLike):
        _fill_from_file(message, pathlib.Path(os.fsdecode(image)))
    elif is_pillow(image):
        message.encoded = _png(image)
    else:
        raise InvalidInput(f"{_described(image)}; an array, bytes, a path or a Pillow image is allowed")


def is_one(images: ImageLike | Iterable[ImageLike]) -> bool:
    """Return whether this is one image rather than several."""
    return isinstance(images, np.ndarray | bytes | bytearray | memoryview | str | os.PathLike) or is_pillow(images)


def is_pillow(image: object) -> TypeGuard[PillowImage]:
    """Return whether it can do what a Pillow image can; Pillow need not be installed."""
    return all(hasattr(image, name) for name in ("mode", "size", "save", "convert"))


def is_quick(image: object) -> bool:
    """Return whether its message takes no file access and no encoding, so that an event loop may make it."""
    return isinstance(image, np.ndarray | bytes | bytearray | memoryview)


def size_of(image: ImageLike) -> int:
    """Return about how many bytes an image takes in a message; 0 where that shows only when its message is made."""
    if isinstance(image, np.ndarray | memoryview):
        return image.nbytes
    if isinstance(image, bytes | bytearray):
        return len(image)
    if is_pillow(image):
        return image.size[0] * image.size[1] * 3
    try:
        return os.stat(cast(Any, image)).st_size
    except (OSError, TypeError, ValueError):
        return 0


def to_ids(ids: Iterable[str]) -> list[str]:
    """Return example ids.

    Raises:
        InvalidInput: one is no text, or they are a single string, which would be taken for its characters.
    """
    if isinstance(ids, str):
        raise InvalidInput(f'ids is "{ids}"; a list of ids is allowed')
    given = list(ids)
    for index, one in enumerate(given):
        _check_text(one, f"ids[{index}]", "ids")
    return given


def source_of(image: object) -> str:
    """Return the path of an image that was given as one, for reports."""
    return os.fsdecode(image) if isinstance(image, str | os.PathLike) else ""


def _is_content(value: object) -> bool:
    """Return whether it is what an image may be given as, other than text."""
    return not isinstance(value, str) and is_one(cast(Any, value))


def _told(value: object) -> str:
    """Return the type, and the value of a number."""
    return f"{value}, of type {type(value).__name__}" if isinstance(value, Number) else _described(value)


def _quoted(value: object) -> str:
    return f', such as "{value}"' if isinstance(value, Number) else ""


def _described(value: object) -> str:
    return f"a {type(value).__module__}.{type(value).__qualname__}".replace("builtins.", "")


def _fill_tensor(message: types_pb2.Tensor, array: NDArray[Any]) -> None:
    if array.dtype == np.uint8:
        _check_pixels(array.shape)
        message.dtype = types_pb2.Tensor.UINT8
    elif array.ndim == 1 and np.issubdtype(array.dtype, np.floating):
        array = array.astype("<f4", copy=False)
        message.dtype = types_pb2.Tensor.FLOAT32
    else:
        raise InvalidInput(
            f"{array.dtype} array of shape {list(array.shape)}; "
            "uint8 images (values 0 to 255) or float32 vectors are allowed"
        )
    message.shape.extend(array.shape)
    message.data = array.tobytes()


def _check_pixels(shape: tuple[int, ...]) -> None:
    if len(shape) == 2 or (len(shape) == 3 and shape[2] in _CHANNELS):
        return
    hint = ""
    if len(shape) == 4:
        hint = "; for several images give a list of them"
    elif len(shape) == 3 and shape[0] in _CHANNELS:
        hint = "; channels come last"
    raise InvalidInput(
        f"uint8 array of shape {list(shape)}; [height, width] or [height, width, 1, 3 or 4] is allowed{hint}"
    )


def _fill_from_file(message: types_pb2.Image, path: pathlib.Path) -> None:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror or error}") from error
    except ValueError as error:  # a null character
        raise InvalidInput(f"{str(path)!r}: {error}") from error
    if path.suffix.lower() != ".npy":
        message.encoded = data
        return
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except (
        Exception
    ) as error:  # whatever a damaged header leads numpy to: ValueError, SyntaxError, MemoryError and more
        raise InvalidInput(f"{path}: {_said(error)}") from error
    if not isinstance(array, np.ndarray):
        raise InvalidInput(f"{path}: {_described(array)}; one array is allowed")
    try:
        _fill_tensor(message.tensor, array)
    except InvalidInput as error:
        raise InvalidInput(f"{path}: {error}") from error


def _png(image: PillowImage) -> bytes:
    """Return the image as a PNG file with its orientation, which the server applies as it does for files.

    Nothing else of what Pillow knows about it goes along, so that no odd profile or text keeps it from being sent.
    """
    if image.mode in _WIDE_MODES:
        raise InvalidInput(f'a Pillow image of mode "{image.mode}"; convert it to "L" or "RGB" first')
    buffer = io.BytesIO()
    orientation = _orientation(image)
    try:
        if image.mode not in _PNG_MODES:
            image = image.convert("RGB")
        # 1: most of the gain for a fraction of the time
        image.save(buffer, format="PNG", compress_level=1, exif=_exif(orientation), icc_profile=b"")
    except Exception as error:  # Pillow reads a file only now; its decoders raise whatever a damaged one leads them to
        raise InvalidInput(f"a Pillow image that cannot be read: {_said(error)}") from error
    return buffer.getvalue()


def _orientation(image: PillowImage) -> int:
    """Return the EXIF orientation, or 1 where none can be read."""
    try:
        found = image.getexif().get(_ORIENTATION, 1) if hasattr(image, "getexif") else 1
    except Exception:  # optional, so that whatever it is like, the pixels count
        return 1
    return found if isinstance(found, int) and 2 <= found <= 8 else 1


def _exif(orientation: int) -> bytes:
    """Return EXIF with an orientation alone (TIFF 6.0, section 2); nothing for an upright image."""
    if orientation == 1:
        return b""
    return b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHIHH", _ORIENTATION, 3, 1, orientation, 0) + bytes(4)


def _said(error: Exception) -> str:
    """Return what an error says, with its type where that says more than the text."""
    if isinstance(error, OSError | ValueError | EOFError):
        return str(error) or type(error).__name__
    return f"{type(error).__name__}: {error}".removesuffix(": ")
