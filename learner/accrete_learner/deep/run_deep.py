"""Run one deep step from a folder to a folder: train, write the tuned backbone, compute features by it, and judge it.

Nothing outside the folder is written, and the result is written last.
"""

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from threadpoolctl import threadpool_limits

from accrete_kit.spans import in_words
from accrete_kit.stopwatch import Stopwatch
from accrete_learner.analytic import Statistics
from accrete_learner.backbones import build
from accrete_learner.deep import training
from accrete_learner.deep.comparison import Comparison, Floats, answerer, compare
from accrete_learner.deep.images import Images
from accrete_learner.deep.job import (
    BACKBONE_FOLDER,
    FEATURES_FILE,
    INPUT_JUDGES,
    INPUT_KNOWN_JUDGES,
    INPUT_KNOWN_X,
    INPUT_KNOWN_Y,
    INPUT_Y,
    INPUTS_FILE,
    DeepJob,
    DeepResult,
)
from accrete_learner.frozen_backbone import frozen_backbone
from accrete_learner.progress import Note, Progress, Report, of_stage
from accrete_learner.training.network import Network
from accrete_learner.training.precision import resolve_device, resolve_precision
from accrete_model.config import EngineConfig
from accrete_model.engines.onnxruntime_ import GraphEngine
from accrete_model.files import GRAPH_FILE
from accrete_model.frozen import FrozenBackbone, efficientnet_lite0
from accrete_model.frozen.backbone import CARD_FILE

CPU_MINUTES = 10.0
"""That a deep step may take on a CPU where `training.max_minutes` does not say."""
#: Images whose features are computed at once.
_BATCH = 16
#: Share of the time that computing features is given at most.
_MOST_FOR_FEATURES = 0.4


def run_deep(folder: Path, job: DeepJob, progress: Progress, note: Note) -> DeepResult:
    """Run `job` in `folder`.

    Args:
        folder: holds the examples; the module `job` says what it holds afterwards.
        job: as read from the folder.
        progress: called with the stage, how much of it is done, of how much, and the loss.
        note: called with what the time allows, a sentence for people.

    Raises:
        ValueError: when the backbone cannot be trained, or an image cannot be decoded.
        TrainingDivergedError: when the loss stops being finite.
        OSError: when a file cannot be read or written.
    """
    watch = Stopwatch()
    given: Mapping[str, NDArray[Any]] = load_file(folder / INPUTS_FILE)
    images = Images.of(given, job.model.input_shape)
    y, judges = given[INPUT_Y], given[INPUT_JUDGES].astype(bool)
    class_count = int(max(y.max(), given[INPUT_KNOWN_Y].max())) + 1
    device = resolve_device(job.training.device)
    seconds = _seconds(job, device)
    with watch.stage("load"):
        frozen = frozen_backbone(job.model)
        for_features = min(_MOST_FOR_FEATURES * seconds, len(images) * _image_seconds(frozen, images))
        rows = np.flatnonzero(~judges)
        network = _network(job, given, class_count).to(device)
    with watch.stage("training"):
        trained = training.train(
            network,
            images,
            rows,
            torch.from_numpy(y[rows]),
            epochs=job.deep.epochs,
            seconds=seconds - for_features,
            generator=torch.Generator().manual_seed(job.training.seed),
            report=of_stage(progress, "deep training"),
        )
        text = _note(job, trained, len(rows), seconds)
        note(text)
    with watch.stage("features"):
        tuned = efficientnet_lite0.tuned(frozen, _weights(network))
        (folder / BACKBONE_FOLDER).mkdir(exist_ok=True)
        (folder / BACKBONE_FOLDER / CARD_FILE).write_text(tuned.card(), encoding="utf-8")
        (folder / BACKBONE_FOLDER / GRAPH_FILE).write_bytes(tuned.graph)
        features = _features(tuned, images, of_stage(progress, "deep features"))
        save_file({"features": features}, folder / FEATURES_FILE)
    with watch.stage("judging"), threadpool_limits(1, user_api="blas"):  # more wait for each other on busy cores
        comparison = _compare(job, given, features, judges)
    result = DeepResult(
        better=comparison.is_better(job.deep.margin),
        reason=comparison.describe(),
        note=text,
        epochs=trained.epochs,
        stage_seconds=watch.seconds,
    )
    result.write(folder)
    return result


def _seconds(job: DeepJob, device: torch.device) -> float:
    minutes = job.training.max_minutes
    if minutes is None:
        minutes = CPU_MINUTES if device.type == "cpu" else math.inf
    return 60 * minutes


def _image_seconds(frozen: FrozenBackbone, images: Images) -> float:
    """Return how long the features of an image take."""
    engine = _engine(frozen)
    batch = images.batch(np.arange(min(_BATCH, len(images))))
    engine.run(batch[:1])
    started = time.monotonic()
    engine.run(batch)
    return (time.monotonic() - started) / len(batch)


def _network(job: DeepJob, given: Mapping[str, NDArray[Any]], class_count: int) -> Network:
    known_x, known_y = given[INPUT_KNOWN_X], given[INPUT_KNOWN_Y]
    means = Statistics.empty(known_x.shape[1], class_count).with_examples(known_x, known_y).means()
    device = resolve_device(job.training.device)
    backbone = build(job.model).to(memory_format=torch.channels_last)
    autocast = resolve_precision(job.training.precision, device) == "bfloat16"
    return Network(backbone, training.begun(torch.from_numpy(means).float()), autocast=autocast)


def _weights(network: Network) -> dict[str, NDArray[np.float32]]:
    state = network.backbone.network.state_dict()
    return {name: tensor.cpu().numpy() for name, tensor in state.items() if tensor.dtype == torch.float32}


def _note(job: DeepJob, trained: training.Trained, count: int, seconds: float) -> str:
    """Return what the time allowed."""
    wanted = job.deep.epochs
    if trained.epochs >= wanted - 1e-9:
        return f"{wanted} epochs of {count} images"
    whole = wanted * math.ceil(count / training.BATCH) * trained.batch_seconds
    return (
        f"{wanted} epochs of {count} images would take {in_words(whole)}; {trained.epochs:.1f} fit {in_words(seconds)}"
    )


def _features(backbone: FrozenBackbone, images: Images, report: Report) -> Floats:
    engine = _engine(backbone)
    found = []
    for first in range(0, len(images), _BATCH):
        rows = np.arange(first, min(first + _BATCH, len(images)))
        found.append(engine.run(images.batch(rows)))
        report(int(rows[-1]) + 1, len(images), math.nan)
    return np.concatenate(found)


def _engine(backbone: FrozenBackbone) -> GraphEngine:
    return GraphEngine(
        backbone.graph, EngineConfig(engine="onnxruntime", device="cpu", threads=torch.get_num_threads())
    )


def _compare(
    job: DeepJob, given: Mapping[str, NDArray[Any]], features: Floats, judges: NDArray[np.bool_]
) -> Comparison:
    """Compare what is served, learned from all but what judges, with what the tuned backbone would serve."""
    y, known_x = given[INPUT_Y], given[INPUT_KNOWN_X]
    after = features.astype(known_x.dtype)  # rounded as the store rounds
    seed = job.training.seed
    return compare(
        answerer(known_x, given[INPUT_KNOWN_Y], seed),
        answerer(after[~judges], y[~judges], seed),
        given[INPUT_KNOWN_JUDGES],
        after[judges],
        y[judges],
    )
