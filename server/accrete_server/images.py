"""Decoding: from the images that applications send to what the model takes.

Shapes: H, W, C of the model's input; h, w, c of an image as sent; d of an embedding.
"""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import AvifImagePlugin, Image

from accrete.v1 import types_pb2
from accrete_model.input_spec import InputSpec
from accrete_server.image_files import BadStructure, Picture, exif_orientation, name_of, picture_of, whole_pixels

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "AVIF", "HEIF")
"""By Pillow's names. HEIF is read where pillow-heif is installed, AVIF where Pillow was built with it."""

SIDE_LIMIT = 65_535
"""Pixels of a side: what JPEG can say, and enough for the other formats."""

SCAN_LIMIT = 100
"""Scans of a progressive JPEG: encoders write about ten. Each makes the decoder go over all pixels, so that without a
limit a few bytes a scan would buy minutes of work."""

_REDUCING_GAP = 3.0
"""An image of twice so many times the size needed or more is first averaged to so many times, which is less than half
of the work and moves a grey level in four by one."""

LARGEST = 1e15
"""Largest number of an embedding: the squares of as many as it may have still add up to a float32."""

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What turns an image upright, by its EXIF orientation."""

AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # else a decoder starts a thread for each CPU of the machine

try:
    import pillow_heif
except ImportError:
    HEIF = False
else:
    pillow_heif.register_heif_opener()
    HEIF = True

_NONE = "not a JPEG, PNG, WebP or BMP image"  # AVIF and HEIC are read where the server can

Array = NDArray[Any]


class BadImage(Exception):
    """An input cannot be used. The message is a reason without a subject, such as "truncated or damaged PNG"."""


def allow_large_headers() -> None:
    """Switch off Pillow's own limit of sizes, which is another one and warns only once. `ImageReader` checks sizes."""
    Image.MAX_IMAGE_PIXELS = None


class ImageReader:
    """Turns inputs into arrays of the model's shape and type. It has no state."""

    def __init__(self, spec: InputSpec, *, max_pixels: int, max_bytes: int) -> None:
        """Read inputs of a model.

        Args:
            spec: What the model takes.
            max_pixels: Width times height of an image as sent, at most.
            max_bytes: Bytes of an image as sent, at most.
        """
        self.spec = spec
        self._max_pixels = max_pixels
        self._max_bytes = max_bytes
        fits = spec.is_image and math.prod(spec.shape) <= max_bytes and math.prod(spec.shape[:2]) <= max_pixels
        self._ready_made = math.prod(spec.shape) if fits else -1
        """Bytes of an image that has the model's size already; -1: even that is more than may be sent."""

    def read(self, image: types_pb2.Image) -> Array:
        """Return the model's input from an image on the wire. Raises BadImage."""
        content = image.WhichOneof("content")
        if content == "encoded":
            return self.encoded(image.encoded)
        if content != "tensor":
            raise BadImage("empty: neither encoded bytes nor a tensor")
        tensor = image.tensor
        if tensor.dtype == types_pb2.Tensor.UINT8:
            return self.pixels(tensor.shape, tensor.data)
        if tensor.dtype == types_pb2.Tensor.FLOAT32:
            return self.vector(tensor.shape, tensor.data)
        raise BadImage(f"tensor of unknown dtype {tensor.dtype}; UINT8 and FLOAT32 are allowed")

    def encoded(self, data: bytes) -> Array:
        """Decode a JPEG, PNG, WebP, BMP, AVIF or HEIC file to uint8 [H, W, C]. Raises BadImage.

        The orientation is applied, alpha is dropped, and the image is resized to the model's size, bilinear with
        antialiasing: the whole of it or its middle, as `InputSpec.shorter_side` says. A JPEG is decoded at 1/2, 1/4 or
        1/8 of its size where that is still as large as needed: the decoder averages for less than resizing does.
        Metadata that cannot be read is passed over, and so is what stands behind the image's end.
        """
        enough = max(*self.spec.shape[:2], self.spec.shorter_side)
        return self._fit(self.upright(data, enough))

    def upright(self, data: bytes, enough: int) -> Image.Image:
        """Decode a file as `encoded` does, and turn it upright. Raises BadImage.

        Args:
            data: the file.
            enough: pixels of a side down to which a JPEG may be decoded smaller than it is, which costs less.
        """
        self._check_is_image("an encoded image")
        self._check_bytes(len(data))
        picture = self._picture(data)
        self._check_webp(picture.data)
        self._check_scans(picture)
        image = self._open(picture)
        if picture.doubtful and not whole_pixels(picture, image.width * image.height):
            raise BadImage("damaged PNG: its pixels are not those that its checksums are of")
        try:
            image.draft(self._mode, (enough, enough))
            image.load()
            plain = _plain(image)
        except Exception as error:  # decoders raise whatever a damaged file leads them to
            raise BadImage(f"truncated or damaged {picture.format}: {error}") from error
        orientation = picture.orientation
        if picture.format == "AVIF":  # Pillow tells the container's own as EXIF
            orientation = exif_orientation(image.info.get("exif") or b"")
        return plain.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else plain

    def pixels(self, shape: Sequence[int], data: bytes) -> Array:
        """Return a raw uint8 image [h, w] or [h, w, 1 | 3 | 4] as uint8 [H, W, C]. Raises BadImage."""
        if len(data) == self._ready_made and tuple(shape) == self.spec.shape:
            return np.frombuffer(data, np.uint8).reshape(self.spec.shape)
        self._check_is_image("a uint8 tensor")
        if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] not in (1, 3, 4)):
            raise BadImage(f"uint8 shape {list(shape)}; [height, width] or [height, width, 1, 3 or 4] are allowed")
        self._check_size(shape[1], shape[0])
        self._check_length(shape, data, 1)
        array = np.frombuffer(data, np.uint8).reshape(shape)
        return self._fit(image_of(array))

    def vector(self, shape: Sequence[int], data: bytes) -> Array:
        """Return a raw little-endian float32 vector [d] with no number beyond +-`LARGEST`. Raises BadImage."""
        if self.spec.is_image:
            raise BadImage(f"a float32 tensor, but this model takes images ({self.spec})")
        if tuple(shape) != self.spec.shape:
            raise BadImage(f"float32 shape {list(shape)}; this model takes {self.spec}")
        self._check_length(shape, data, 4)
        array = np.frombuffer(data, "<f4").astype(np.float32, copy=False)
        if not np.isfinite(array).all():
            raise BadImage("values that are not finite (NaN or infinity)")
        if np.abs(array).max() > LARGEST:
            raise BadImage(f"values beyond +-{LARGEST:g}")
        return array

    @property
    def _mode(self) -> Literal["RGB", "L"]:
        return "RGB" if self.spec.shape[2] == 3 else "L"

    def _picture(self, data: bytes) -> Picture:
        if not data:
            raise BadImage("no bytes")
        try:
            picture = picture_of(data)
        except BadStructure as error:
            raise BadImage(str(error)) from error
        if picture is None:
            name = name_of(data)
            raise BadImage(f"{_NONE}: this is a {name} file" if name else f"{_NONE}, or its header is damaged")
        if picture.format == "HEIF" and not HEIF:
            raise BadImage(f'{_NONE}: HEIC is read where the server has its extra, pip install "accrete[heic]"')
        return picture

    def _open(self, picture: Picture) -> Image.Image:
        try:
            image = Image.open(io.BytesIO(picture.data), formats=(picture.format,))
        except Exception as error:  # as above; nothing has been decoded yet
            raise BadImage(f"{_NONE}, or its header is damaged") from error
        self._check_size(*image.size)
        return image

    def _check_webp(self, data: bytes) -> None:
        """Check the size of a WebP image before Pillow opens it and with that sets up a decoder, canvas and all."""
        size = webp_size(data)
        if size is not None:
            self._check_size(*size)

    def _check_scans(self, picture: Picture) -> None:
        if picture.scans > SCAN_LIMIT:
            raise BadImage(f"a JPEG of {picture.scans} scans; at most {SCAN_LIMIT} are taken")

    def _check_is_image(self, what: str) -> None:
        if not self.spec.is_image:
            raise BadImage(f"{what}, but this model takes embeddings ({self.spec} tensors)")

    def _check_bytes(self, count: int) -> None:
        if count > self._max_bytes:
            raise BadImage(f"{count} bytes; max_image_bytes is {self._max_bytes}")

    def _check_size(self, width: int, height: int) -> None:
        if width < 1 or height < 1:
            raise BadImage(f"no pixels ({width} x {height})")
        if width * height > self._max_pixels:
            raise BadImage(f"{width} x {height} is {width * height} pixels; max_pixels is {self._max_pixels}")
        if max(width, height) > SIDE_LIMIT:
            raise BadImage(f"{width} x {height}; a side has at most {SIDE_LIMIT} pixels")

    def _check_length(self, shape: Sequence[int], data: bytes, size: int) -> None:
        wanted = math.prod(shape) * size
        if len(data) != wanted:
            raise BadImage(f"{len(data)} bytes for shape {list(shape)}; {wanted} are needed")
        self._check_bytes(len(data))

    def _fit(self, image: Image.Image) -> Array:
        """Return an image of any plain mode as uint8 [H, W, C]."""
        height, width, channels = self.spec.shape
        if image.mode != self._mode:
            image = image.convert(self._mode)
        if image.size != (width, height):
            image = image.resize(
                (width, height), Image.Resampling.BILINEAR, box=self._box(*image.size), reducing_gap=_REDUCING_GAP
            )
        return np.asarray(image).reshape(height, width, channels)

    def _box(self, width: int, height: int) -> tuple[float, float, float, float]:
        """Return the part of an image that the model sees: all of it, or the middle."""
        if not self.spec.shorter_side:
            return 0, 0, width, height
        scale = min(width, height) / self.spec.shorter_side
        # Rounding must not lead beyond the edge.
        left = max(0.0, (width - self.spec.shape[1] * scale) / 2)
        top = max(0.0, (height - self.spec.shape[0] * scale) / 2)
        return left, top, width - left, height - top


def image_of(pixels: Array) -> Image.Image:
    """Return an image of uint8 [h, w] or [h, w, 1 | 3 | 4]."""
    return Image.fromarray(pixels[:, :, 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels)


def sent_form(image: types_pb2.Image) -> tuple[str, bytes]:
    """Return how an image on the wire is to be read, and its bytes, before anything of them is dropped."""
    if image.WhichOneof("content") != "tensor":
        return "encoded", image.encoded
    tensor = image.tensor
    return f"{tensor.dtype} {','.join(map(str, tensor.shape))}", tensor.data


def _plain(image: Image.Image) -> Image.Image:
    """Return the image in a mode that converts without loss: 16-bit grey scaled, not clipped, and palettes opened."""
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
    if image.mode == "P":
        return image.convert("RGBA" if "transparency" in image.info else "RGB")
    return image


def webp_size(data: bytes) -> tuple[int, int] | None:
    """Return width and height from the header of a WebP file (RFC 9649, sections 2.5 to 2.7); None if it is none."""
    if len(data) < 30 or data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        return None
    kind = data[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        width, height = struct.unpack("<HH", data[26:30])
        return width & 0x3FFF, height & 0x3FFF
    return None
