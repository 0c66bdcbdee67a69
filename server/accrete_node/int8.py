"""`accrete backbones --int8` writes a frozen backbone in 8-bit integers, and says what that gains and costs here.

Shapes: N images, d features.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accrete_kit.atomic_file import write_bytes
from accrete_kit.plain import plain
from accrete_kit.visible_files import visible_files
from accrete_learner.backbone_names import ONNX, is_frozen
from accrete_learner.config import IDENTITY, ModelConfig
from accrete_learner.frozen_backbone import frozen_backbone
from accrete_model.config import EngineConfig
from accrete_model.engines.onnxruntime_ import GraphEngine
from accrete_model.frozen.int8 import quantized
from accrete_node.exit_status import CANNOT_START
from accrete_node.settings import Settings
from accrete_server.images import BadImage, ImageReader

_CALIBRATED, _COMPARED = 128, 32
FEWEST = 16
_ROUNDS = 15


def write_int8(settings: Settings, file: Path, images: Path) -> int:
    """Write the settings' backbone in integers to `file`, calibrated on images of the folder `images`.

    Returns:
        The exit status: 2 when that cannot be done, and then there is no file.
    """
    try:
        told = _written(settings, file, images)
    except (OSError, ValueError) as error:
        print(f"accrete: {plain(error)}", file=sys.stderr)
        return CANNOT_START
    print(told)
    return 0


def _written(settings: Settings, file: Path, folder: Path) -> str:
    model = settings.model
    if not is_frozen(model.backbone) or model.backbone == IDENTITY:
        raise ValueError(f"model.backbone = {model.backbone!r}: no frozen network, and there is nothing to quantise")
    if file.exists():
        raise ValueError(f"{file}: is there already")
    if not file.parent.is_dir():  # said before minutes of work
        raise ValueError(f"{file}: there is no folder {file.parent}")
    found, passed_over = _images(folder, model, settings.server.max_pixels, settings.server.max_image_bytes)
    compared, calibrated = found[: len(found) // 5], found[len(found) // 5 :]
    graph = frozen_backbone(model).graph
    try:
        integers = quantized(graph, calibrated, file.parent)
    except Exception as error:  # of ONNX Runtime's and onnx' many kinds
        reason = " ".join(str(error).split())
        raise ValueError(f"model.backbone = {model.backbone!r}: ONNX Runtime cannot quantise it: {reason}") from error
    (before, after), (slow, fast) = _measured((graph, integers), np.stack(compared))
    cosine = (before * after).sum(1) / (np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1))
    write_bytes(file, integers)
    return (
        f"{file}: {len(integers) / 1e6:.1f} MB in place of {len(graph) / 1e6:.1f}, "
        f"{fast:.1f} ms per image in place of {slow:.1f} (one thread of this CPU)\n"
        f"Calibrated on {len(calibrated)} images{passed_over}. On {len(compared)} others its features lie at a cosine "
        f"of {cosine.mean():.4f} (lowest {cosine.min():.4f}) to those of {model.backbone}.\n"
        f"Take it up with model.backbone = {ONNX}{file}; no other setting of how it takes images, for they are in it."
    )


def _images(folder: Path, model: ModelConfig, max_pixels: int, max_bytes: int) -> tuple[list[NDArray[Any]], str]:
    """Return images of a folder as the model takes them, drawn at random, and what is to be told of other files.

    Raises:
        ValueError: there are too few.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: no folder of images")
    files = sorted(visible_files(folder))
    random.Random(0).shuffle(files)
    reader = ImageReader(model.input_spec, max_pixels=max_pixels, max_bytes=max_bytes)
    found, left_out = list[NDArray[Any]](), list[Path]()
    for path in files:
        try:
            found.append(reader.encoded(path.read_bytes()))
        except (BadImage, OSError):
            left_out.append(path)  # what else lies there
        if len(found) == _CALIBRATED + _COMPARED:
            break
    if len(found) < FEWEST:
        raise ValueError(f"{folder}: {len(found)} images that can be read; at least {FEWEST} are needed")
    return found, f" ({len(left_out)} files are no images, such as {left_out[0]})" if left_out else ""


def _measured(graphs: Sequence[bytes], images: NDArray[Any]) -> tuple[list[NDArray[Any]], list[float]]:
    """Return the features [N, d] by each graph, and its milliseconds for one image, measured by turns."""
    engines = [GraphEngine(graph, EngineConfig(device="cpu")) for graph in graphs]
    features = [engine.run(images) for engine in engines]
    seconds: list[list[float]] = [[] for _ in engines]
    for _ in range(_ROUNDS):
        for engine, taken in zip(engines, seconds, strict=True):
            began = time.perf_counter()
            engine.run(images[:1])
            taken.append(time.perf_counter() - began)
    for engine in engines:
        engine.close()
    return features, [1000 * statistics.median(taken) for taken in seconds]
