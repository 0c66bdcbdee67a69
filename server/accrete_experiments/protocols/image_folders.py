"""Images in a folder for each class, decoded and resized as a server does it, so that figures hold for served images.

Shapes: N images; H, W, C their height, width and channels.
"""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from accrete._calls import folder
from accrete_kit import cores
from accrete_kit.visible_files import visible_files
from accrete_model.input_spec import InputSpec
from accrete_server.images import BadImage, ImageReader

Images = NDArray[np.uint8]
Progress = Callable[[int, int], None]

SUFFIXES = frozenset(folder.SUFFIXES) - {".npy"}
#: One image in so many measures where a folder does not say which do.
TEST_EVERY = 5
#: Images decoded between two reports of progress; bounds what waits in memory.
_CHUNK = 512
_NO_LIMIT = 2**40
"""Of pixels and bytes: what is measured is one's own."""


class DataError(ValueError):
    """Data cannot be used; the message says why, and what would be right."""


def load(
    root: Path, *, size: int | None, shorter_side: int = 0, channels: int, progress: Progress | None = None
) -> dict[str, Any]:
    """Return the fields of a `data.Dataset`; classes are the folders' names, sorted.

    `root` has a folder for each class, or two such trees: `train`, and `test` or (when there is no `test`) `val`. With
    one tree alone, the fifth of each class's images whose relative paths have the smallest sha256, at least one, is the
    test part: the same on every machine, wherever the tree lies.

    Args:
        root: a folder; images lie at any depth below a class's own, hidden ones left out.
        size: height and width to resize to; None: all images must have one size.
        shorter_side: as `model.shorter_side` has it for a server; with a `size` alone.
        channels: 3 colour, 1 grey.
        progress: called with images done and in all.

    Raises:
        DataError: naming the folder or the file, when something is missing or is no image.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    measured = next((root / name for name in ("test", "val") if (root / name).is_dir()), None)
    if (root / "train").is_dir() and measured is not None:
        train, test = _tree(root / "train"), _tree(measured)
        if set(train) != set(test):
            odd = sorted(set(train) ^ set(test))
            raise DataError(f"{root}: train and {measured.name} have different classes, {odd[0]!r} in one alone")
    elif (root / "train").is_dir():
        train, test = _split(root / "train")
    else:
        train, test = _split(root)
    names = sorted(train)
    ordered = [[(path, label) for label, name in enumerate(names) for path in part[name]] for part in (train, test)]
    reader = None if size is None else _reader(size, shorter_side, channels)
    images = _decoded([path for part in ordered for path, _ in part], reader, channels, progress)
    train_y, test_y = (np.array([label for _, label in part], np.int64) for part in ordered)
    bound = len(train_y)
    return {
        "train_x": images[:bound],
        "train_y": train_y,
        "test_x": images[bound:],
        "test_y": test_y,
        "names": tuple(names),
    }


def resized(images: Images, size: int, shorter_side: int = 0, progress: Progress | None = None) -> Images:
    """Return images [N, H, W, C] as [N, size, size, C], resized as a server does it with that `shorter_side`."""
    reader = _reader(size, shorter_side, images.shape[3])
    made = np.empty((len(images), size, size, images.shape[3]), np.uint8)

    def one(index: int) -> None:
        made[index] = reader.pixels(images[index].shape, images[index].tobytes())

    in_parallel(one, len(images), progress)
    return made


def in_parallel(do: Callable[[int], None], count: int, progress: Progress | None) -> None:
    """`do(0)` to `do(count - 1)` in threads: decoding and resizing leave Python's lock."""
    with ThreadPoolExecutor(min(8, cores.whole())) as pool:
        for start in range(0, count, _CHUNK):
            end = min(start + _CHUNK, count)
            list(pool.map(do, range(start, end)))
            if progress is not None:
                progress(end, count)


def _tree(root: Path) -> dict[str, list[Path]]:
    """Return images by class, sorted by path."""
    classes = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    found = {one.name: _images(one) for one in classes}
    empty = [name for name, paths in found.items() if not paths]
    if not found or empty:
        where = root / empty[0] if empty else f"{root}: no folders of classes"
        raise DataError(f"{where}: no images ({', '.join(sorted(SUFFIXES))})")
    return found


def _images(root: Path) -> list[Path]:
    return sorted(path for path in visible_files(root) if path.suffix.lower() in SUFFIXES)


def _split(root: Path) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
    train, test = {}, {}
    for name, paths in _tree(root).items():
        if len(paths) < 2:
            raise DataError(f"{root / name}: one image alone cannot be both for training and for testing")
        ranked = sorted(paths, key=lambda path: hashlib.sha256(path.relative_to(root).as_posix().encode()).digest())
        chosen = frozenset(ranked[: max(1, len(paths) // TEST_EVERY)])
        train[name] = [path for path in paths if path not in chosen]
        test[name] = [path for path in paths if path in chosen]
    return train, test


def _reader(size: int, shorter_side: int, channels: int) -> ImageReader:
    spec = InputSpec((size, size, channels), "uint8", shorter_side)
    return ImageReader(spec, max_pixels=_NO_LIMIT, max_bytes=_NO_LIMIT)


def _decoded(paths: Sequence[Path], reader: ImageReader | None, channels: int, progress: Progress | None) -> Images:
    first = _read(paths[0], reader, channels)
    made = np.empty((len(paths), *first.shape), np.uint8)

    def one(index: int) -> None:
        image = _read(paths[index], reader, channels)
        if image.shape != first.shape:
            here, others = (f"{width} x {height}" for height, width, _ in (image.shape, first.shape))
            raise DataError(
                f"{paths[index]} is {here} pixels, {paths[0]} {others}: ask for one size with --size PIXELS, such as "
                "224 for photographs"
            )
        made[index] = image

    in_parallel(one, len(paths), progress)
    return made


def _read(path: Path, reader: ImageReader | None, channels: int) -> Images:
    """Return uint8 [H, W, channels], turned as the camera was held; of the image's own size without a reader."""
    try:
        if reader is not None:
            return reader.encoded(path.read_bytes())
        with Image.open(path) as file:
            image = _plain(ImageOps.exif_transpose(file)).convert("RGB" if channels == 3 else "L")
    except BadImage as error:
        raise DataError(f"{path}: {error}") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: not an image that can be read: {error}") from error
    found = np.asarray(image)
    return found[..., None] if found.ndim == 2 else found


def _plain(image: Image.Image) -> Image.Image:
    """16-bit grey scaled instead of clipped, palettes opened."""
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
    return image.convert("RGBA" if "transparency" in image.info else "RGB") if image.mode == "P" else image
