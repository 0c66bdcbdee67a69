"""Every place that a data set can lie in gives the same arrays, or says what is wrong with it."""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import CIFAR100

from accrete_experiments.bench.display import Display
from accrete_experiments.bench.options import ProtocolOptions
from accrete_experiments.bench.protocol import BenchError, _image_model, _perform
from accrete_experiments.protocols.data import Dataset, digest, indices, load
from accrete_experiments.protocols.image_folders import DataError
from accrete_experiments.protocols.orders import ORDER_1993
from accrete_model.input_spec import InputSpec
from accrete_server.images import ImageReader

NAMES = ("ant", "bee", "cat")
REAL = os.environ.get("ACCRETE_CIFAR100", "")


def pictures(count: int, side: int = 9, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, channels), np.uint8)


def arrays(side: int = 9, channels: int = 3) -> dict[str, np.ndarray]:
    """Unequal classes, not sorted."""
    return {
        "train_images": pictures(6, side, channels),
        "train_labels": np.array([2, 0, 1, 0, 2, 0], np.int16),
        "test_images": pictures(3, side, channels, seed=1),
        "test_labels": np.array([1, 0, 2], np.int16),
    }


def pack(folder: Path, **replaced: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in (arrays() | replaced).items():
        np.save(folder / f"{name}.npy", array)
    (folder / "names.txt").write_text("\n".join(NAMES) + "\n")
    return folder


def write_png(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(path)


def tree(root: Path, each: int = 5, side: int = 9, names: tuple[str, ...] = NAMES) -> Path:
    for number, name in enumerate(names):
        for index, image in enumerate(pictures(each, side, seed=number)):
            write_png(root / name / f"{index}.png", image)
    return root


def same(first: Dataset, second: Dataset) -> bool:
    return digest(first) == digest(second)


def test_packed_arrays_come_as_they_are(tmp_path: Path):
    found = load(str(pack(tmp_path)))
    expected = arrays()
    assert found.names == NAMES
    assert found.train_y.dtype == found.test_y.dtype == np.int64
    assert np.array_equal(found.train_x, expected["train_images"])
    assert np.array_equal(found.train_y, expected["train_labels"])
    assert np.array_equal(found.test_x, expected["test_images"])
    assert np.array_equal(found.test_y, expected["test_labels"])


def test_one_file_gives_what_the_folder_gives(tmp_path: Path):
    packed: dict[str, Any] = arrays()
    np.savez(tmp_path / "all.npz", names=np.array(NAMES), **packed)
    assert same(load(str(tmp_path / "all.npz")), load(str(pack(tmp_path / "folder"))))


def test_without_names_classes_are_called_by_their_index(tmp_path: Path):
    packed: dict[str, Any] = arrays()
    np.savez(tmp_path / "all.npz", **packed)
    assert load(str(tmp_path / "all.npz")).names == ("0", "1", "2")


def test_grey_images_without_a_channel_get_one(tmp_path: Path):
    grey = {f"{part}_images": arrays()[f"{part}_images"][..., 0] for part in ("train", "test")}
    assert load(str(pack(tmp_path, **grey))).train_x.shape == (6, 9, 9, 1)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_embeddings_of_any_precision_are_float32_and_have_no_size(tmp_path: Path, dtype: type):
    found = load(str(pack(tmp_path, train_images=np.ones((6, 4), dtype), test_images=np.ones((3, 4), dtype))), size=32)
    assert found.train_x.dtype == found.test_x.dtype == np.float32
    assert (found.train_x.shape, found.test_x.shape) == ((6, 4), (3, 4))


@pytest.mark.parametrize(
    ("replaced", "complaint"),
    [
        ({"train_labels": np.zeros(6)}, "whole numbers"),
        ({"train_labels": np.zeros((6, 1), np.int64)}, "whole numbers"),
        ({"train_labels": np.array([0, 1, 2])}, "6 training examples have 3 labels"),
        ({"train_labels": np.array([0, 1, 2, 3, 0, 0])}, "outside 0 to 2"),
        ({"test_labels": np.array([-1, 1, 2])}, "outside 0 to 2|no test example"),
        ({"test_labels": np.array([0, 1, 1])}, "no test example of 1 of the 3 classes"),
        ({"train_images": pictures(6).astype(np.int64)}, "must be uint8 images"),
        ({"train_images": pictures(6, channels=4)}, "must be uint8 images"),
        ({"test_images": pictures(3, side=8)}, "test examples"),
        ({"train_images": np.full((6, 4), np.nan), "test_images": np.ones((3, 4))}, "not finite"),
        ({"train_images": np.array([{}] * 6)}, "cannot be used"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_with_the_reason(tmp_path: Path, replaced: dict[str, Any], complaint: str):
    with pytest.raises(DataError, match=complaint):
        load(str(pack(tmp_path, **replaced)))


def test_a_missing_array_is_named(tmp_path: Path):
    (pack(tmp_path) / "test_labels.npy").unlink()
    with pytest.raises(DataError, match="test_labels"):
        load(str(tmp_path))


def test_what_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(DataError, match="no such folder"):
        load(str(tmp_path / "nothing"))


@pytest.mark.parametrize("measured", ["test", "val"])
def test_a_tree_with_a_test_part_keeps_it(tmp_path: Path, measured: str):
    tree(tmp_path / "train", each=4)
    tree(tmp_path / measured, each=2)
    found = load(str(tmp_path))
    assert found.names == NAMES
    assert found.train_y.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert found.test_y.tolist() == [0, 0, 1, 1, 2, 2]
    assert np.array_equal(found.train_x[4:8], pictures(4, seed=1))


def test_a_tree_without_a_test_part_is_split_by_class_the_same_wherever_it_lies(tmp_path: Path):
    first = load(str(tree(tmp_path / "here", each=11)))
    shutil.copytree(tmp_path / "here", tmp_path / "deep" / "there" / "train")
    assert same(first, load(str(tmp_path / "deep" / "there")))
    assert np.bincount(first.test_y).tolist() == [2, 2, 2]
    both = {hashlib.sha256(image.tobytes()).digest() for image in (*first.train_x, *first.test_x)}
    assert len(both) == 33


def test_of_two_images_one_measures_and_of_one_there_is_no_split(tmp_path: Path):
    found = load(str(tree(tmp_path / "two", each=2)))
    assert (len(found.train_y), len(found.test_y)) == (3, 3)
    with pytest.raises(DataError, match="one image alone"):
        load(str(tree(tmp_path / "one", each=1)))


def test_images_are_resized_as_the_server_resizes_them(tmp_path: Path):
    """The same file, through the protocol and through a request."""
    rng = np.random.default_rng(0)
    for name in NAMES:
        for index in range(2):
            write_png(tmp_path / name / f"{index}.png", rng.integers(0, 256, (20 + index, 31, 3), np.uint8))
    write_png(tmp_path / "ant" / "deep" / "grey.png", rng.integers(0, 256, (40, 12, 1), np.uint8))
    Image.fromarray(rng.integers(0, 65535, (17, 23)).astype(np.uint16)).save(tmp_path / "ant" / "sixteen.png")
    turned = Image.fromarray(rng.integers(0, 256, (10, 30, 3), np.uint8))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "ant" / "turned.jpg", exif=exif)
    turned.convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "ant" / "palette.png")
    for channels, shorter_side in ((1, 0), (3, 0), (3, 9)):
        spec = InputSpec((8, 8, channels), "uint8", shorter_side)
        reader = ImageReader(spec, max_pixels=10**6, max_bytes=10**7)
        served = {reader.encoded(path.read_bytes()).tobytes() for path in tmp_path.rglob("*.*")}
        found = load(str(tmp_path), size=8, shorter_side=shorter_side, channels=channels)
        assert {image.tobytes() for image in (*found.train_x, *found.test_x)} == served


@pytest.mark.parametrize("channels", [1, 3])
def test_packed_images_are_resized_like_files(tmp_path: Path, channels: int):
    images = arrays(channels=channels)
    found = load(str(pack(tmp_path, **images)), size=4, shorter_side=5)
    spec = InputSpec((4, 4, channels), "uint8", 5)
    reader = ImageReader(spec, max_pixels=10**6, max_bytes=10**7)
    for sent, kept in zip(images["train_images"], found.train_x, strict=True):
        assert np.array_equal(reader.pixels(sent.shape, sent.tobytes()), kept)


def test_images_of_many_sizes_need_one_to_be_asked_for(tmp_path: Path):
    tree(tmp_path)
    write_png(tmp_path / "cat" / "large.png", pictures(1, side=12)[0])
    with pytest.raises(DataError, match=r"large\.png is 12 x 12 pixels, .*\.png 9 x 9: .* with --size PIXELS"):
        load(str(tmp_path))
    assert load(str(tmp_path), size=9).train_x.shape[1:] == (9, 9, 3)


def test_a_damaged_image_is_named(tmp_path: Path):
    (tree(tmp_path) / "bee" / "2.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    for size in (None, 8):
        with pytest.raises(DataError, match=r"2\.png: not a"):
            load(str(tmp_path), size=size)


def test_a_size_comes_with_the_networks_own_way_of_cropping(tmp_path: Path):
    options = ProtocolOptions(data="photos", out=tmp_path, size=64)
    for backbone, asked, expected in (("resnet32", None, 0), ("resnet32", 72, 72), ("efficientnet_lite0", None, 73)):
        model = _image_model(replace(options, backbone=backbone, shorter_side=asked), 64, 3)
        assert model.shorter_side == expected
    with pytest.raises(BenchError, match="goes with a --size"):
        _perform(replace(options, size=None, shorter_side=72), Display())


def test_classes_of_one_part_alone_are_named(tmp_path: Path):
    tree(tmp_path / "train")
    tree(tmp_path / "test", names=("ant", "bee"))
    with pytest.raises(DataError, match="'cat'"):
        load(str(tmp_path))


def test_an_empty_class_is_named_and_hidden_files_do_not_fill_it(tmp_path: Path):
    tree(tmp_path, each=2)
    (tmp_path / "dog" / ".thumbnails").mkdir(parents=True)
    for name in (".hidden.png", ".thumbnails/0.png"):
        write_png(tmp_path / "dog" / name, pictures(1)[0])
    with pytest.raises(DataError, match="dog: no images"):
        load(str(tmp_path))


def test_progress_counts_all_images_to_the_last(tmp_path: Path):
    seen: list[tuple[int, int]] = []
    load(str(tree(tmp_path / "tree")), progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (15, 15)
    seen.clear()
    load(str(pack(tmp_path / "packed")), size=4, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(6, 9), (9, 9)]


def test_cifar_that_is_not_there_says_what_to_do(tmp_path: Path):
    with pytest.raises(DataError, match="ask for the download"):
        load(f"cifar100:{tmp_path}")


def test_cifar_is_read_from_its_official_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Small files in the official form; only the checksums, which are the real files', are not looked at."""
    monkeypatch.setattr(CIFAR100, "train_list", [["train", None]])
    monkeypatch.setattr(CIFAR100, "test_list", [["test", None]])
    monkeypatch.setattr(CIFAR100, "meta", {"filename": "meta", "key": "fine_label_names", "md5": None})
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    images = {part: pictures(count, side=32, seed=count) for part, count in (("train", 6), ("test", 3))}
    labels = {"train": [2, 0, 1, 0, 2, 0], "test": [1, 0, 2]}
    for part in images:
        rows = images[part].transpose(0, 3, 1, 2).reshape(len(images[part]), -1)
        (folder / part).write_bytes(pickle.dumps({"data": rows, "fine_labels": labels[part]}))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": list(NAMES)}))
    found = load(f"cifar100:{tmp_path}")
    assert found.names == NAMES
    assert np.array_equal(found.train_x, images["train"])
    assert np.array_equal(found.test_x, images["test"])
    assert (found.train_y.tolist(), found.test_y.tolist()) == (labels["train"], labels["test"])
    assert load(f"cifar100:{tmp_path}", size=8).test_x.shape == (3, 8, 8, 3)


@pytest.mark.skipif(not REAL, reason="ACCRETE_CIFAR100 does not name a place of the real CIFAR-100")
def test_the_real_data_have_the_classes_that_the_papers_order_counts_on():
    found = load(REAL)
    assert (found.train_x.shape, found.test_x.shape) == ((50_000, 32, 32, 3), (10_000, 32, 32, 3))
    assert list(found.names) == sorted(found.names)
    assert [found.names[index] for index in ORDER_1993[:3]] == ["road", "palm_tree", "snake"]
    assert np.bincount(found.train_y).tolist() == [500] * 100
    assert np.bincount(found.test_y).tolist() == [100] * 100


def test_indices_are_class_by_class_and_at_most_so_many():
    y = np.array([2, 0, 1, 0, 2, 0])
    assert indices(y, (2, 0)).tolist() == [0, 4, 1, 3, 5]
    assert indices(y, (0, 1), per_class=2).tolist() == [1, 3, 2]
    assert indices(y, ()).tolist() == indices(y, (7,)).tolist() == []
    assert indices(y, ()).dtype == np.int64


def test_the_digest_notices_every_change_and_nothing_else(tmp_path: Path):
    data = load(str(pack(tmp_path)))
    changed = data.train_x.copy()
    changed[3, 2, 1, 0] ^= 1
    others = [
        replace(data, train_x=changed),
        replace(data, train_y=data.train_y[::-1].copy()),
        replace(data, names=("ant", "bee", "cow")),
        replace(data, train_x=data.train_x[::-1], train_y=data.train_y[::-1]),
        replace(data, train_x=data.train_x[..., :1], test_x=data.test_x[..., :1]),
    ]
    assert len({digest(data), *map(digest, others)}) == 6
    assert digest(data) == digest(replace(data, train_x=data.train_x.copy(order="F")))
