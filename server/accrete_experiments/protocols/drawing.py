"""Draws a protocol's finished runs from what their last tasks left on disk. Needs matplotlib.

Shapes: n test images, C classes seen, d feature length.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from accrete_experiments.protocols import exemplar_figures, figures
from accrete_experiments.protocols.data import Dataset, indices
from accrete_experiments.protocols.published import Published
from accrete_experiments.protocols.results import Run
from accrete_experiments.protocols.run import Memory, Plan, task_folder
from accrete_learner import evaluate
from accrete_learner.backbones import Backbone, build, weights
from accrete_learner.trainer.job import CANDIDATE_FOLDER
from accrete_model import files
from accrete_model.card import ModelCard
from accrete_model.reader import read_card

FIGURES_FOLDER = "figures"
#: What a picture has room for. Of more classes than can be told apart it says how many it leaves out.
_CLASSES_SHOWN, _PICTURES_SHOWN, _POINTS_A_CLASS = 12, 16, 80


def draw(
    folder: Path, plans: Sequence[Plan], runs: Sequence[Run], data: Dataset, published: Sequence[Published] = ()
) -> list[Path]:
    """Write accuracy curves, confusion matrices, features with exemplars, and a gallery, and return their paths.

    Each picture is written as PNG, whose path is returned, and beside it as PDF and SVG. The last three show each
    method's run with the first seed, where its last task's files are still there.

    Args:
        folder: of the protocol.
        plans: whose last tasks to show.
        runs: finished, for the curves.
        data: the protocol's.
        published: what others reached, for the curves.
    """
    home = folder / FIGURES_FOLDER
    home.mkdir(exist_ok=True)
    paths = [figures.accuracy_curves(runs, home / "accuracy.png", published=published)]
    shown = _first_of_each(folder, plans)
    if not shown:
        return paths
    some = next(iter(shown.values()))
    counts = [len(task) for task in some.tasks]
    matrices = {name: _confusion(folder, plan, data) for name, plan in shown.items()}
    paths.append(
        figures.confusion_matrices(matrices, home / "confusion.png", class_counts=counts, names=_names(some, data))
    )
    keeping = {name: plan for name, plan in shown.items() if len(_memory(folder, plan).y)}
    if keeping:
        paths.append(_draw_features(folder, keeping, data, home / "features.png"))
    if keeping and data.train_x.ndim == 4:
        paths.append(_draw_gallery(folder, keeping, data, home / "exemplars.png"))
    return paths


def _names(plan: Plan, data: Dataset) -> list[str]:
    """Return the classes' names in order of arrival."""
    return [data.names[index] for task in plan.tasks for index in task]


def _left_out(plan: Plan) -> str:
    """Return a line that says which classes a picture shows, if not all."""
    classes = sum(len(task) for task in plan.tasks)
    return "" if classes <= _CLASSES_SHOWN else f"The first {_CLASSES_SHOWN} classes to arrive, of {classes}."


def _first_of_each(folder: Path, plans: Sequence[Plan]) -> dict[str, Plan]:
    shown: dict[str, Plan] = {}
    for plan in plans:
        if (_last(folder, plan) / CANDIDATE_FOLDER).is_dir():
            shown.setdefault(plan.asked, plan)
    return shown


def _last(folder: Path, plan: Plan) -> Path:
    return task_folder(folder, plan, len(plan.tasks))


def _memory(folder: Path, plan: Plan) -> Memory:
    return Memory.read(_last(folder, plan))


def _model(folder: Path, plan: Plan) -> tuple[Backbone, Mapping[str, torch.Tensor], ModelCard]:
    """Return the last task's backbone in evaluation mode, its head, and what model.json says."""
    candidate = _last(folder, plan) / CANDIDATE_FOLDER
    card = read_card(candidate)
    backbone = build(replace(plan.protocol.model, weights=""), last_relu=card.last_relu, features=card.features)
    weights.load(backbone, load_file(candidate / files.WEIGHTS_FILE), source=str(candidate))
    return backbone.eval(), load_file(candidate / files.HEAD_FILE), card


def _confusion(folder: Path, plan: Plan, data: Dataset) -> NDArray[np.int64]:
    """Return the counts [C, C] on the test images, by the method's own rule."""
    backbone, head, card = _model(folder, plan)
    order = [index for task in plan.tasks for index in task]
    rows = indices(data.test_y, order)
    features = evaluate.extract(backbone, torch.from_numpy(data.test_x[rows]))
    file = _last(folder, plan) / CANDIDATE_FOLDER / files.RULE_FILE
    fitted = load_file(file) if file.exists() else {}
    predicted = evaluate.scores(card.rule, features, head, fitted).argmax(1).numpy()
    place = np.full(len(data.names), -1, np.int64)
    place[order] = np.arange(len(order))
    return figures.confusion(place[data.test_y[rows]], predicted, len(order))


def _draw_features(folder: Path, plans: Mapping[str, Plan], data: Dataset, path: Path) -> Path:
    """Test images of the first classes with the exemplars that stand for them, in each method's own features."""
    some = next(iter(plans.values()))
    shown = [index for task in some.tasks for index in task][:_CLASSES_SHOWN]
    rows = np.concatenate([indices(data.test_y, [index])[:_POINTS_A_CLASS] for index in shown])
    true = np.repeat(np.arange(len(shown)), [int((data.test_y[rows] == index).sum()) for index in shown])
    maps = {}
    for name, plan in plans.items():
        backbone, memory = _model(folder, plan)[0], _memory(folder, plan)
        kept = memory.y < len(shown)
        x = torch.cat((torch.from_numpy(data.test_x[rows]).to(memory.x.dtype), memory.x[kept]))
        classes = np.concatenate((true, memory.y[kept].numpy()))
        maps[name] = exemplar_figures.FeatureMap(
            points=exemplar_figures.project(evaluate.extract(backbone, x).numpy(), seed=plan.seed),
            classes=classes,
            exemplar=np.arange(len(classes)) >= len(rows),
        )
    return exemplar_figures.feature_maps(maps, [data.names[index] for index in shown], path, note=_left_out(some))


def _draw_gallery(folder: Path, plans: Mapping[str, Plan], data: Dataset, path: Path) -> Path:
    """Return the first exemplars of the first classes, one row per method."""
    rows, some = {}, next(iter(plans.values()))
    shown = [index for task in some.tasks for index in task][:_CLASSES_SHOWN]
    each = max(1, _PICTURES_SHOWN // len(shown))
    for name, plan in plans.items():
        memory = _memory(folder, plan)
        first = [memory.x[memory.y == label][:each] for label in range(len(shown))]
        rows[name] = torch.cat(first).float().numpy()
    columns = [data.names[index] for index in shown for _ in range(each)]
    return exemplar_figures.gallery(rows, path, columns=columns, note=_left_out(some))
