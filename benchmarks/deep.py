"""Deep steps on photographs: what the closed form answers right before one and after, and what the time allows.

Takes a folder with `train` and `test`, a folder of photographs per class in each. The trainer is the node's: examples
in a folder, a process that trains, judges and computes features. Whatever the verdict, the head is then solved on all
examples to learn from, by the backbone before and by the tuned one, and asked for the photographs of `test`.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from accrete_learner.config import DeepConfig, ModelConfig, TrainingConfig
from accrete_learner.deep import job
from accrete_learner.deep.comparison import answerer
from accrete_learner.deep.job import DeepJob, DeepResult
from accrete_learner.frozen_backbone import frozen_backbone
from accrete_learner_service.deep.due import judging
from accrete_learner_service.runtime.status import Progress
from accrete_learner_service.trainer.child import Trainer
from accrete_model.config import EngineConfig
from accrete_model.engines.onnxruntime_ import GraphEngine
from accrete_model.files import GRAPH_FILE
from accrete_model.frozen import FrozenBackbone
from accrete_model.frozen.backbone import CARD_FILE
from accrete_server.images import ImageReader
from accrete_storage.config import StoreConfig
from accrete_storage.examples.encoded_image import EncodedImage
from benchmarks.report import Row, arguments, machine, show

_MODEL = ModelConfig(backbone="efficientnet_lite0")
_BATCH = 16
_EACH = (5, 20, 0)
"""Photographs per class; 0: all."""


@dataclass(frozen=True)
class Photographs:
    """Photographs as a store has them."""

    names: list[str]
    content: list[EncodedImage]
    y: NDArray[np.int64]

    def features(self, backbone: FrozenBackbone) -> NDArray[np.float16]:
        """Return what a store would keep of each [n, d]."""
        engine = GraphEngine(backbone.graph, EngineConfig(device="cpu"))
        parts = [self.content[first : first + _BATCH] for first in range(0, len(self.content), _BATCH)]
        found = [engine.run(np.stack([one.decode() for one in part])) for part in parts]
        return np.concatenate(found).astype(np.float16)


def main() -> None:
    """Measure and show."""
    parser = arguments(__doc__ or "")
    parser.add_argument("folder", type=Path, help="photographs: train/CLASS/FILE and test/CLASS/FILE")
    parser.add_argument("--each", type=int, nargs="*", default=_EACH, help="photographs per class; 0: all")
    parser.add_argument("--minutes", type=float, default=10.0, help="that a deep step may take")
    options = parser.parse_args()
    found = machine()
    classes = sorted(entry.name for entry in (options.folder / "train").iterdir())[: 5 if options.short else None]
    learned, asked = (read(options.folder / part, classes) for part in ("train", "test"))
    frozen = frozen_backbone(_MODEL)
    known, before = learned.features(frozen), asked.features(frozen)
    rows: list[Row] = []
    for each in options.each:
        chosen = _draw(learned.y, each)
        minutes = min(options.minutes, 0.5) if options.short else options.minutes
        rows += _one(f"{each or 'all'} per class", learned, chosen, known[chosen], asked, before, minutes)
        show(rows[-6:], {}, None)
    show(rows, found, options.json)


def read(folder: Path, classes: list[str]) -> Photographs:
    """Return the photographs of classes below a folder, as a store has them."""
    reader = ImageReader(_MODEL.input_spec, max_pixels=100_000_000, max_bytes=100_000_000)
    files = [(y, file) for y, label in enumerate(classes) for file in sorted((folder / label).iterdir())]
    content = [EncodedImage.of(reader.encoded(file.read_bytes()), StoreConfig().image_quality) for _, file in files]
    return Photographs(
        names=[f"{file.parent.name}/{file.name}" for _, file in files],
        content=[image for image in content if image is not None],
        y=np.array([y for y, _ in files], np.int64),
    )


def _draw(y: NDArray[np.int64], each: int) -> NDArray[np.int64]:
    """Return the rows of so many examples per class."""
    generator = np.random.default_rng(1)
    rows = (generator.permutation(np.flatnonzero(y == label)) for label in range(int(y.max()) + 1))
    return np.concatenate([found[: each or None] for found in rows])


def _one(
    name: str,
    learned: Photographs,
    chosen: NDArray[np.int64],
    known: NDArray[np.float16],
    asked: Photographs,
    before: NDArray[np.float16],
    minutes: float,
) -> list[Row]:
    y = learned.y[chosen]
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        _stage(folder, [learned.names[row] for row in chosen], [learned.content[row] for row in chosen], y, known)
        DeepJob(model=_MODEL, training=TrainingConfig(max_minutes=minutes), deep=DeepConfig()).write(folder)
        started = time.monotonic()
        trainer = Trainer(nice=0)
        try:
            trainer.run(folder, _Printed(), lambda: None, print)
        finally:
            trainer.kill()
        seconds = time.monotonic() - started
        result = DeepResult.read(folder)
        features = load_file(folder / job.FEATURES_FILE)["features"].astype(np.float16)
        files = folder / job.BACKBONE_FOLDER
        tuned = FrozenBackbone.from_card((files / CARD_FILE).read_bytes(), (files / GRAPH_FILE).read_bytes())
        after = asked.features(tuned)
    print(result)

    def right(x: NDArray[Any], to: NDArray[Any]) -> float:
        return 100 * float((answerer(x.astype(np.float32), y, 1)(to.astype(np.float32)) == asked.y).mean())

    old, new = right(known, before), right(features, after)
    return [
        Row(name=f"{name}: right before", value=old, unit="%"),
        Row(name=f"{name}: right after", value=new, unit="%"),
        Row(name=f"{name}: gain", value=new - old, unit="points"),
        Row(name=f"{name}: found better by its judges", value=result.better, unit=""),
        Row(name=f"{name}: epochs", value=result.epochs, unit=""),
        Row(name=f"{name}: minutes", value=seconds / 60, unit=""),
    ]


def _stage(
    folder: Path, names: list[str], content: list[EncodedImage], y: NDArray[np.int64], known: NDArray[np.float16]
) -> None:
    chosen = {name for label in np.unique(y) for name in judging([names[row] for row in np.flatnonzero(y == label)])}
    judges = np.array([name in chosen for name in names])
    tensors: dict[str, NDArray[Any]] = {
        job.INPUT_DATA: np.frombuffer(b"".join(one.data for one in content), np.uint8),
        job.INPUT_ENDS: np.cumsum([len(one.data) for one in content], dtype=np.int64),
        job.INPUT_ENCODED: np.ones(len(content), bool),
        job.INPUT_Y: y,
        job.INPUT_JUDGES: judges,
        job.INPUT_KNOWN_X: known[~judges],
        job.INPUT_KNOWN_Y: y[~judges],
        job.INPUT_KNOWN_JUDGES: known[judges],
    }
    save_file(tensors, folder / job.INPUTS_FILE)


class _Printed:
    """Prints how far it is, a few times a minute."""

    def __init__(self) -> None:
        self._printed_s = 0.0

    def __call__(self, progress: Progress) -> None:
        if time.monotonic() - self._printed_s > 20:
            self._printed_s = time.monotonic()
            print(f"{progress.stage}: {progress.done} of {progress.total}, loss {progress.loss}", flush=True)


if __name__ == "__main__":
    main()
