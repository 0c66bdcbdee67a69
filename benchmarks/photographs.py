"""Storage of photographs: bytes, milliseconds and the store's memory, as they are stored and as raw pixels.

Photographs of a folder are decoded and cropped to 224 x 224 as a server does it, and wait in an embedded store with
`appendfsync always`. Where the folder has too few, they come again in other crops. Memory is the store's own count
(`used_memory`) and the resident memory of its process.
"""

from __future__ import annotations

import itertools
import secrets
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from accrete_model.input_spec import InputSpec
from accrete_server.images import ImageReader
from accrete_storage.config import HoldoutConfig, StoreConfig
from accrete_storage.embedded.server import EmbeddedStore
from accrete_storage.examples.encoded_image import EncodedImage
from accrete_storage.examples.example import Example
from accrete_storage.store import Store
from benchmarks.node import resident_bytes
from benchmarks.photograph_files import photographs_below
from benchmarks.report import Row, arguments, machine, median_row, show

_SIDE = 224
_BATCH = 64
_TARGET = 100_000
"""Pending examples that a store takes by default."""
_MB = 1e6

Photograph = NDArray[np.uint8]


def main() -> None:
    """Measure and show."""
    parser = arguments(__doc__ or "")
    parser.add_argument("folder", type=Path, help="photographs, at any depth below it")
    options = parser.parse_args()
    found = machine()
    try:
        files = photographs_below(options.folder)
    except FileNotFoundError as error:
        parser.error(str(error))
    count = 500 if options.short else 10_000
    quality = StoreConfig().image_quality
    rows = _one_by_one(files[:: max(1, len(files) // min(count, 2000))], quality)
    for name, set_to, number in (("encoded", quality, count), ("raw", 0, count // 5)):
        rows += _waiting(name, itertools.islice(photographs(files), number), set_to)
    show(rows, found, options.json)


def photographs(files: list[Path]) -> Iterator[Photograph]:
    """Yield photographs without an end, uint8 [224, 224, 3], each time round in a smaller crop."""
    for shorter_side in itertools.count(256, 8):
        reader = _reader(shorter_side)
        for path in files:
            yield reader.encoded(path.read_bytes())


def _reader(shorter_side: int) -> ImageReader:
    spec = InputSpec((_SIDE, _SIDE, 3), "uint8", shorter_side)
    return ImageReader(spec, max_pixels=100_000_000, max_bytes=100_000_000)


def _one_by_one(files: list[Path], quality: int) -> list[Row]:
    """Return bytes of each photograph, and processor time to encode and decode it."""
    sizes, encoding, decoding = list[float](), list[float](), list[float]()
    for pixels in itertools.islice(photographs(files), len(files)):
        started = time.process_time()
        encoded = EncodedImage.of(pixels, quality)
        between = time.process_time()
        assert encoded is not None
        encoded.decode()
        decoding.append(1000 * (time.process_time() - between))
        encoding.append(1000 * (between - started))
        sizes.append(len(encoded.data) / 1000)
    return [
        median_row("bytes of a photograph", sizes, "KB"),
        Row(name="bytes of the largest", value=max(sizes), unit="KB", bound="<= 40"),
        Row(name="bytes of its pixels", value=_SIDE * _SIDE * 3 / 1000, unit="KB"),
        Row(name="to encode, median", value=float(np.median(encoding)), unit="ms"),
        Row(name="to decode, median", value=float(np.median(decoding)), unit="ms"),
    ]


def _waiting(name: str, images: Iterator[Photograph], quality: int) -> list[Row]:
    """Return what photographs that wait in a store take of it."""
    with tempfile.TemporaryDirectory() as folder:
        config = StoreConfig(image_quality=quality, pending_max_bytes=1 << 40)
        server = EmbeddedStore(Path(folder), config)
        server.start()
        try:
            assert server.pid is not None
            store = Store.connect(config, HoldoutConfig(), data_dir=Path(folder))
            empty, resident = store.info().used_memory, resident_bytes(server.pid)
            count = 0
            while batch := [_example(image) for image in itertools.islice(images, _BATCH)]:
                store.pending.add(batch)
                count += len(batch)
            used = (store.info().used_memory - empty) / _MB
            grown = (resident_bytes(server.pid) - resident) / _MB
            on_disk = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()) / _MB
            stored = store.pending.total().bytes / _MB
            store.close()
        finally:
            server.stop()
    scale = _TARGET / count
    return [
        Row(name=f"{name}: photographs waiting", value=count, unit=""),
        Row(name=f"{name}: records", value=stored, unit="MB"),
        Row(name=f"{name}: the store's memory", value=used, unit="MB"),
        Row(name=f"{name}: its process", value=grown, unit="MB"),
        Row(name=f"{name}: its log on disk", value=on_disk, unit="MB"),
        Row(name=f"{name}: memory for {_TARGET:,} of them", value=used * scale / 1000, unit="GB"),
    ]


def _example(image: Photograph) -> Example:
    """Return an example with an id as long as those that a server makes."""
    return Example(id=secrets.token_hex(16), label=f"label {secrets.randbelow(81)}", content=image)


if __name__ == "__main__":
    main()
