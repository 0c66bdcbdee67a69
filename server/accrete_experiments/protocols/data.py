"""Labelled images, or embeddings, with a training and a test part, from wherever they lie.

Shapes: N examples; H, W, C an image's height, width and channels; d an embedding's length. All arrays are numpy's.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accrete_experiments.protocols import image_folders
from accrete_experiments.protocols.image_folders import DataError, Progress

Array = NDArray[Any]
CIFAR100 = "cifar100"
PARTS = ("train_images", "train_labels", "test_images", "test_labels")


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """What is learned and what measures it."""

    train_x: Array
    """uint8 images [N, H, W, C], or float32 embeddings [N, d]."""
    train_y: NDArray[np.int64]
    """[N] class indices."""
    test_x: Array
    """As `train_x`, of the same shape but for N."""
    test_y: NDArray[np.int64]
    """As `train_y`."""
    names: tuple[str, ...]
    """Of the classes, by index."""

    def __post_init__(self) -> None:
        for part, x, y in (("training", self.train_x, self.train_y), ("test", self.test_x, self.test_y)):
            _check(part, x, y, len(self.names))
        if (self.train_x.shape[1:], self.train_x.dtype) != (self.test_x.shape[1:], self.test_x.dtype):
            raise DataError(f"training examples are {_form(self.train_x)}, test examples {_form(self.test_x)}")


def load(
    source: str,
    *,
    size: int | None = None,
    shorter_side: int = 0,
    channels: int = 3,
    download: bool = False,
    progress: Progress | None = None,
) -> Dataset:
    """Read a data set, whose classes keep the indices that they have there.

    Args:
        source: one of
            - `cifar100` or `cifar100:FOLDER`: the official files under FOLDER, or under `data` where we stand;
            - a folder of `train_images.npy`, `train_labels.npy`, `test_images.npy`, `test_labels.npy` and `names.txt`
              (a name a line), or one .npz of the same arrays and `names`: uint8 images [N, H, W, C] or [N, H, W],
              or embeddings [N, d]; without names, classes are called by their index;
            - a folder with a folder of images for each class, either directly or under `train` and under `test` or
              `val`; see `image_folders.load`.
        size: height and width that images are resized to, as a server resizes them; None: as they are. Not used with
            embeddings.
        shorter_side: pixels that an image's shorter side is brought to before its middle is taken, as
            `model.shorter_side` says it of a server; 0: the whole image is stretched. With a `size` alone.
        channels: of images read from files: 3 colour, 1 grey. Arrays keep their own.
        download: whether CIFAR-100 may be fetched when it is not there.
        progress: called with the images read, and with how many there are, where that takes time.

    Raises:
        DataError: when it is not there or cannot be used; the message says what to do.
    """
    kind, _, root = source.partition(":")
    if kind == CIFAR100:
        found = _cifar100(Path(root or "data"), download=download)
    elif source.endswith(".npz"):
        found = _packed_file(Path(source))
    elif (Path(source) / f"{PARTS[0]}.npy").is_file():
        found = _packed_folder(Path(source))
    else:
        return Dataset(
            **image_folders.load(
                Path(source), size=size, shorter_side=shorter_side, channels=channels, progress=progress
            )
        )
    return found if size is None else _resized(found, size, shorter_side, progress)


def indices(y: NDArray[np.int64], classes: Sequence[int], *, per_class: int | None = None) -> NDArray[np.int64]:
    """Return where the examples of some classes stand: class by class as given, in the array's order within each.

    Args:
        y: [N] the data set's labels.
        classes: any of its classes, such as those of a task.
        per_class: how many of each at most, the first in the array's order; None: all.

    Returns:
        [n] int64 into `y`.
    """
    rows = [np.flatnonzero(y == label)[:per_class] for label in classes]
    return np.concatenate([np.empty(0, np.int64), *rows])


def digest(dataset: Dataset) -> str:
    """64 hexadecimal digits that change with any example, its order, any label or any name (sha256 of all bytes)."""
    found = hashlib.sha256(repr(dataset.names).encode())
    for array in (dataset.train_x, dataset.train_y, dataset.test_x, dataset.test_y):
        found.update(f"{array.dtype.str} {array.shape}".encode())
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()


def _cifar100(root: Path, *, download: bool) -> Dataset:
    from torchvision import datasets

    try:
        train, test = (datasets.CIFAR100(str(root), train=is_train, download=download) for is_train in (True, False))
    except (RuntimeError, OSError) as error:
        raise DataError(
            f"CIFAR-100 is not in {root}: ask for the download (--download), or put the official cifar-100-python "
            f"folder there ({error})"
        ) from error
    return Dataset(
        train_x=train.data,
        train_y=np.asarray(train.targets, np.int64),
        test_x=test.data,
        test_y=np.asarray(test.targets, np.int64),
        names=tuple(train.classes),
    )


def _packed_file(path: Path) -> Dataset:
    try:
        with np.load(path, allow_pickle=False) as pack:
            arrays = {name: pack[name] for name in PARTS}
            names = tuple(str(name) for name in pack["names"]) if "names" in pack.files else None
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"{path} cannot be used: {error}; it must hold {', '.join(PARTS)}") from error
    return _packed(path, arrays, names)


def _packed_folder(path: Path) -> Dataset:
    try:
        arrays = {name: np.load(path / f"{name}.npy", allow_pickle=False) for name in PARTS}
        file = path / "names.txt"
        names = tuple(file.read_text(encoding="utf-8").splitlines()) if file.exists() else None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be used: {error}; it must hold {', '.join(PARTS)} as .npy files") from error
    return _packed(path, arrays, names)


def _packed(path: Path, arrays: dict[str, Array], names: tuple[str, ...] | None) -> Dataset:
    labels = {part: arrays[f"{part}_labels"] for part in ("train", "test")}
    for part, array in labels.items():
        if array.dtype.kind not in "iu" or array.ndim != 1:
            raise DataError(f"{path}: {part}_labels must be whole numbers [N], not {array.dtype} {list(array.shape)}")
    if names is None:
        names = tuple(str(index) for index in range(1 + max(int(y.max(initial=-1)) for y in labels.values())))
    try:
        return Dataset(
            train_x=_examples(arrays["train_images"]),
            train_y=labels["train"].astype(np.int64),
            test_x=_examples(arrays["test_images"]),
            test_y=labels["test"].astype(np.int64),
            names=names,
        )
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def _examples(array: Array) -> Array:
    """Grey images with their channel, embeddings of any precision as float32."""
    if array.dtype == np.uint8 and array.ndim == 3:
        return array[..., None]
    return array.astype(np.float32) if array.dtype.kind == "f" and array.ndim == 2 else array


def _resized(dataset: Dataset, size: int, shorter_side: int, progress: Progress | None) -> Dataset:
    if dataset.train_x.ndim == 2 or dataset.train_x.shape[1:3] == (size, size):
        return dataset
    total = len(dataset.train_x) + len(dataset.test_x)
    report = progress or (lambda done, total: None)
    resized = partial(image_folders.resized, size=size, shorter_side=shorter_side)
    return Dataset(
        train_x=resized(dataset.train_x, progress=lambda done, _: report(done, total)),
        train_y=dataset.train_y,
        test_x=resized(dataset.test_x, progress=lambda done, _: report(len(dataset.train_x) + done, total)),
        test_y=dataset.test_y,
        names=dataset.names,
    )


def _check(part: str, x: Array, y: NDArray[np.int64], classes: int) -> None:
    is_images = x.dtype == np.uint8 and x.ndim == 4 and x.shape[3] in (1, 3)
    if not is_images and not (x.dtype == np.float32 and x.ndim == 2):
        raise DataError(
            f"{part} examples are {_form(x)}: must be uint8 images [N, H, W, 1 or 3] or float32 embeddings [N, d]"
        )
    if x.dtype == np.float32 and not np.isfinite(x).all():
        raise DataError(f"{part} examples hold values that are not finite")
    if len(x) != len(y):
        raise DataError(f"{len(x)} {part} examples have {len(y)} labels")
    missing = sorted(set(range(classes)) - set(np.unique(y).tolist()))
    if missing:
        raise DataError(f"no {part} example of {len(missing)} of the {classes} classes, class {missing[0]} the first")
    if len(y) and not (y.min() >= 0 and y.max() < classes):
        raise DataError(f"a {part} label is outside 0 to {classes - 1}")


def _form(x: Array) -> str:
    return f"{x.dtype} {list(x.shape)}"
