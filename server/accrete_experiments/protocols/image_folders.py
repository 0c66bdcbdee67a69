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

from accrete_kit import cores

Images = NDArray[np.uint8]
Progress = Callable[[int, int], None]

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".webp"})
#: One image in so many measures where a folder does not say which do.
TEST_EVERY = 5
#: Images decoded between two reports of progress; bounds what waits in memory.
_CHUNK = 512


class DataError(ValueError):
    """Data cannot be used; the message says why, and what would be right."""


def load(root: Path, *, size: int | None, channels: int, progress: Progress | None = None) -> dict[str, Any]:
    """Return the fields of a `data.Dataset`; classes are the folders' names, sorted.

    `root` has a folder for each class, or two such trees: `train`, and `test` or (when there is no `test`) `val`. With
    one tree alone, the fifth of each class's images whose relative paths have the smallest sha256, at least one, is the
    test part: the same on every machine, wherever the tree lies.

    Args:
        root: a folder; images lie at any depth below a class's own, hidden ones left out.
        size: height and width to resize to; None: all images must have one size.
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
    images = _decoded([path for part in ordered for path, _ in part], size, channels, progress)
    train_y, test_y = (np.array([label for _, label in part], np.int64) for part in ordered)
    bound = len(train_y)
    return {
        "train_x": images[:bound],
        "train_y": train_y,
        "test_x": images[bound:],
        "test_y": test_y,
        "names": tuple(names),
    }


def resized(images: Images, size: int, progress: Progress | None = None) -> Images:
    """Return images [N, H, W, C] as [N, size, size, C].

    They are resized bilinearly with antialiasing, and stretched where not square.
    """
    made = np.empty((len(images), size, size, images.shape[3]), np.uint8)
    in_parallel(lambda index: _store(made, index, _fit(_opened(images[index]), size)), len(images), progress)
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
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    found = {folder.name: _images(folder) for folder in folders}
    empty = [name for name, paths in found.items() if not paths]
    if not found or empty:
        where = root / empty[0] if empty else f"{root}: no folders of classes"
        raise DataError(f"{where}: no images ({', '.join(sorted(SUFFIXES))})")
    return found


def _images(folder: Path) -> list[Path]:
    below = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    return sorted(path for path in below if not path.name.startswith("."))


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


def _decoded(paths: Sequence[Path], size: int | None, channels: int, progress: Progress | None) -> Images:
    first = _read(paths[0], size, channels)
    made = np.empty((len(paths), *first.shape), np.uint8)

    def one(index: int) -> None:
        image = _read(paths[index], size, channels)
        if image.shape != first.shape:
            raise DataError(f"{paths[index]} is {image.shape[:2]}, others are {first.shape[:2]}: ask for one size")
        made[index] = image

    in_parallel(one, len(paths), progress)
    return made


def _read(path: Path, size: int | None, channels: int) -> Images:
    """uint8 [H, W, channels], turned as the camera was held."""
    try:
        with Image.open(path) as file:
            if size is not None:
                file.draft("RGB" if channels == 3 else "L", (2 * size, 2 * size))
            image = _plain(ImageOps.exif_transpose(file)).convert("RGB" if channels == 3 else "L")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: not an image that can be read: {error}") from error
    return _array(image if size is None else _fit(image, size))


def _plain(image: Image.Image) -> Image.Image:
    """16-bit grey scaled instead of clipped, palettes opened."""
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
    return image.convert("RGBA" if "transparency" in image.info else "RGB") if image.mode == "P" else image


def _opened(array: Images) -> Image.Image:
    return Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)


def _fit(image: Image.Image, size: int) -> Image.Image:
    return image if image.size == (size, size) else image.resize((size, size), Image.Resampling.BILINEAR)


def _array(image: Image.Image) -> Images:
    found = np.asarray(image)
    return found[..., None] if found.ndim == 2 else found


def _store(into: Images, index: int, image: Image.Image) -> None:
    into[index] = _array(image)
