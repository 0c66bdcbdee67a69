"""The demonstration's images: handwritten digits that ship with scikit-learn, or any tree of image folders."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from accrete import InvalidInput
from accrete._calls.folder import find_images, told
from accrete_experiments.live.data import Dataset, Image, Split

TEST_SHARE = 1 / 3
_LARGEST = 64


class DataError(Exception):
    """The folder holds nothing that can be used; the message says what was looked for."""


def digits(seed: int) -> Dataset:
    """1,797 handwritten digits, 8x8 and grey (scikit-learn's `load_digits`); a stratified third is the test set."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    images = list((bunch.images * (255 / 16)).round().astype(np.uint8))
    names = [str(name) for name in bunch.target]
    rows = range(len(names))
    train, test = _parts(
        images, names, *train_test_split(rows, test_size=TEST_SHARE, stratify=names, random_state=seed)
    )
    classes = [str(name) for name in np.random.default_rng(seed).permutation(sorted(set(names)))]
    return Dataset(name="handwritten digits", train=train, test=test, classes=classes, flip=False)


def folder(root: Path, seed: int, limit: int | None) -> Dataset:
    """Return a tree with a folder for each class, or two such trees under `train` and `test`.

    Without `test`, a stratified third is kept aside. `limit`: use the first so many classes of the seeded order.
    Raises DataError when there are fewer than two classes.
    """
    base = root / "train" if (root / "train").is_dir() else root
    train = _tree(base)
    test = _tree(root / "test") if base is not root and (root / "test").is_dir() else None
    if test is None:
        train, test = _kept_aside(train.images, train.labels, seed)
    classes = [str(name) for name in np.random.default_rng(seed).permutation(sorted(set(train.labels)))][:limit]
    if len(classes) < 2:
        raise DataError(f"{base}: a folder of images for each of at least two classes is needed")
    return Dataset(name=str(root), train=train.of(classes), test=test.of(classes), classes=classes, flip=True)


def _tree(root: Path) -> Split:
    """Return what `accrete add` would take of a tree, and tell what it would not."""
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    try:
        found = find_images(root)
    except InvalidInput as error:
        raise DataError(error.details) from error
    for warning in (*found.warnings, *([f"{root}: passed over: {told(found.skipped)}"] if found.skipped else ())):
        print(f"accrete: warning: {warning}", file=sys.stderr)
    images = [(one.image, one.label) for one in found.examples if isinstance(one.image, Path)]
    return Split(images=[image for image, _ in images], labels=[label for _, label in images])


def _kept_aside(images: Sequence[Image], labels: Sequence[str], seed: int) -> tuple[Split, Split]:
    """Split each class at random, about a third and at least one image of it being kept aside."""
    generator = np.random.default_rng(seed)
    train, test = list[int](), list[int]()
    for label in sorted(set(labels)):
        rows = generator.permutation([row for row, other in enumerate(labels) if other == label])
        if len(rows) < 2:
            raise DataError(f"{label}: one image alone cannot be both for teaching and for testing")
        aside = max(1, round(TEST_SHARE * len(rows)))
        test += rows[:aside].tolist()
        train += rows[aside:].tolist()
    return _parts(images, labels, sorted(train), sorted(test))


def _parts(
    images: Sequence[Image], labels: Sequence[str], train: Sequence[int], test: Sequence[int]
) -> tuple[Split, Split]:
    first, second = (
        Split(images=[images[at] for at in part], labels=[labels[at] for at in part]) for part in (train, test)
    )
    return first, second


def input_size(dataset: Dataset) -> int:
    """Return the pixels per side that suit the data, a multiple of 8 up to 64."""
    side = next(filter(None, map(_shorter_side, dataset.train.images)), _LARGEST)
    return min(_LARGEST, max(8, 8 * round(side / 8)))


def _shorter_side(image: Image) -> int:
    """Return an image's height or width, whichever is less; 0 for a file that is none."""
    from PIL import Image as Pillow

    if not isinstance(image, Path):
        return int(min(image.shape[:2]))
    try:
        with Pillow.open(image) as opened:
            return min(opened.size)
    except OSError:  # the node will say what is wrong with it
        return 0


def groups(classes: Sequence[str], first: int, per_step: int) -> list[list[str]]:
    """Return the classes in the groups in which they come, `first` and then `per_step` at a time."""
    starts = [0, *range(first, len(classes), per_step)]
    return [list(classes[start : first if start == 0 else start + per_step]) for start in starts]
