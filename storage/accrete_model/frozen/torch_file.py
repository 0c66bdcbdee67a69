"""Reads the tensors of a file that `torch.save` wrote before PyTorch 1.6, without torch and without running anything.

Such a file is a row of pickles (a magic number, a protocol, facts about the machine, the object, the keys of its
storages) and then each storage's length and bytes. A pickle may name any function of any module; this one may name what
makes a tensor, and every other name is refused.

Source: `torch/serialization.py`, `_legacy_load`.
"""

from __future__ import annotations

import io
import pickle
import struct
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001

_DTYPES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "?",
}


class TorchFileError(ValueError):
    """The file is not one of that form, or holds anything but tensors."""


def read(data: bytes) -> dict[str, NDArray[Any]]:
    """Return the tensors of a state dict by their names, each contiguous.

    Args:
        data: the file's bytes.

    Raises:
        TorchFileError: when it is of another form, is cut short, names anything but tensors, or holds none.
    """
    file = io.BytesIO(data)
    try:
        _check_form(file)
        storages: dict[str, _Storage] = {}
        content = _Tensors(file, storages).load()
        _fill(file, _Tensors(file, {}).load(), storages)
        if not isinstance(content, dict) or not content:
            raise TorchFileError("it holds no state dict")
        return {str(name): _array(value) for name, value in content.items()}
    except TorchFileError:
        raise
    except Exception as error:  # a damaged pickle raises nearly anything
        raise TorchFileError(f"it cannot be read: {type(error).__name__}: {error}") from error


@dataclass(slots=True, eq=False)
class _Storage:
    """Numbers of one type; their bytes come after all that refers to them."""

    dtype: np.dtype[Any]
    length: int
    data: bytes | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _View:
    """A tensor: a storage seen with an offset, sizes and strides, all in elements."""

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def _view(storage: Any, offset: Any, size: Any, stride: Any, *_gradient: Any) -> _View:
    """Stand for `torch._utils._rebuild_tensor_v2`."""
    if not isinstance(storage, _Storage):
        raise TorchFileError("a tensor without a storage")
    return _View(storage, int(offset), tuple(map(int, size)), tuple(map(int, stride)))


_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _view,
    # A type of storage is only ever named. As a text it can be neither called nor given attributes.
    **{("torch", name): name for name in _DTYPES},
}


class _Tensors(pickle.Unpickler):
    """Unpickles numbers, texts, containers of them, and tensors."""

    def __init__(self, file: io.BytesIO, storages: dict[str, _Storage]) -> None:
        super().__init__(file)
        self._storages = storages

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        """Return what stands for a global of `_ALLOWED`; there are no others."""
        try:
            found: Callable[..., Any] = _ALLOWED[module, name]
        except KeyError:
            raise TorchFileError(f"it names {module}.{name}, which is no part of a tensor") from None
        return found

    def persistent_load(self, pid: Any) -> _Storage:
        """Return the storage that a tensor refers to."""
        kind, dtype, key, _location, length, view = pid
        if kind != "storage" or dtype not in _DTYPES or view is not None:
            raise TorchFileError(f"a storage of an unknown kind: {kind!r}, {dtype!r}")
        return self._storages.setdefault(key, _Storage(np.dtype(_DTYPES[dtype]), int(length)))


def _check_form(file: io.BytesIO) -> None:
    if file.getvalue()[:4] == b"PK\x03\x04":
        raise TorchFileError("it is a zip file, as PyTorch 1.6 and later write them; the older form is expected")
    if [_Tensors(file, {}).load() for _ in range(2)] != [_MAGIC, _PROTOCOL]:
        raise TorchFileError("it does not begin as a file of torch.save does")
    if not _Tensors(file, {}).load()["little_endian"]:
        raise TorchFileError("it was written by a machine of the other byte order")


def _fill(file: io.BytesIO, keys: Any, storages: dict[str, _Storage]) -> None:
    for key in keys:
        storage = storages[key]
        (length,) = struct.unpack("<q", file.read(8))
        storage.data = file.read(storage.length * storage.dtype.itemsize)
        if length != storage.length or len(storage.data) != length * storage.dtype.itemsize:
            raise TorchFileError(f"storage {key} is cut short")


def _array(view: Any) -> NDArray[Any]:
    if not isinstance(view, _View):
        raise TorchFileError(f"it holds a {type(view).__name__} beside the tensors")
    storage = view.storage
    if storage.data is None:
        raise TorchFileError("a tensor refers to a storage that is not there")
    # Strides of 0 would make a file of some bytes an array of any size.
    if np.prod(view.size, dtype=object) > storage.length or min(view.stride, default=0) < 0 or view.offset < 0:
        raise TorchFileError("a tensor reaches beyond its storage")
    width = storage.dtype.itemsize
    strides = tuple(step * width for step in view.stride)
    # numpy raises where offset, sizes and strides leave the buffer.
    seen: NDArray[Any] = np.ndarray(view.size, storage.dtype, storage.data, view.offset * width, strides)
    return seen.copy(order="C")
