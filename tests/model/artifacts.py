"""Small real artifacts for tests: a graph of one matrix product, a head, means, golden outputs that agree with it."""

from __future__ import annotations

import dataclasses
import pathlib
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from accrete_model import writer
from accrete_model.card import ModelCard
from accrete_model.frozen import BackboneStore, FrozenBackbone
from accrete_model.frozen.graph import GraphWriter
from accrete_model.input_spec import InputSpec
from accrete_model.vectors import Floats


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What to build. The seed of a class's row is its label, so that a label means the same in every version."""

    labels: tuple[str, ...] = ("cat", "dog")
    shape: tuple[int, ...] = (4, 4, 3)
    feature_length: int = 6
    head: Literal["linear", "cosine", "random_features"] = "linear"
    rule: Literal["head", "nme", "knn", "svm"] = "head"
    seed: int = 0
    nearness: tuple[float, ...] = ()

    @property
    def spec(self) -> InputSpec:
        return InputSpec(self.shape, "uint8" if len(self.shape) == 3 else "float32")


def write_artifact(folder: pathlib.Path, recipe: Recipe) -> pathlib.Path:
    """Writes a complete artifact folder for the recipe."""
    generator = np.random.default_rng(recipe.seed)
    matrix = _backbone(recipe, generator)
    head = _head(recipe)
    inputs = _inputs(recipe, generator)
    writer.write_artifact(
        folder,
        card_of(recipe),
        graph=_graph(recipe, matrix),
        weights={"matrix": matrix},
        head=head,
        fitted=_rule_tensors(recipe, head["means"]),
        golden_input=inputs,
        golden_features=reference_features(matrix, inputs),
    )
    if recipe.nearness:
        writer.write_nearness(folder, np.array(recipe.nearness, np.float32))
    return folder


def reference_features(matrix: Floats, inputs: NDArray[Any]) -> Floats:
    """What the graph computes, in numpy."""
    flat = inputs.reshape(len(inputs), -1).astype(np.float32)
    features: Any = flat if inputs.dtype == np.float32 else (flat / np.float32(255)) @ matrix
    return np.asarray(features, np.float32)


def _backbone(recipe: Recipe, generator: np.random.Generator) -> Floats:
    length = int(np.prod(recipe.shape))
    return generator.standard_normal((length, recipe.feature_length)).astype(np.float32)


def _head(recipe: Recipe) -> dict[str, Floats]:
    rows = np.stack([class_row(label, recipe.feature_length) for label in recipe.labels])
    means = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    if recipe.head == "cosine":
        return {"weight": rows, "scale": np.array([5.0], np.float32), "means": means}
    tensors = {"weight": rows, "bias": np.zeros(len(rows), np.float32), "means": means}
    if recipe.head == "random_features":
        # A feature is the difference of two random ones, so that the scores are those of the linear head.
        mirrored = np.eye(recipe.feature_length, dtype=np.float32)
        tensors |= {"projection": np.hstack([mirrored, -mirrored]), "weight": np.hstack([rows, -rows])}
    return tensors


def class_row(label: str, length: int) -> Floats:
    """The head's row of a label; depends on the label alone."""
    generator = np.random.default_rng(list(label.encode()))
    return generator.standard_normal(length).astype(np.float32)


def _rule_tensors(recipe: Recipe, means: Floats) -> dict[str, NDArray[Any]]:
    """One exemplar a class, the class's mean."""
    count = len(means)
    if recipe.rule == "knn":
        return {
            "x": means,
            "y": np.arange(count),
            "offset": np.zeros(count, np.float32),
            "neighbours": np.array([5]),
            "temperature": np.array([0.1], np.float32),
            "smoothing": np.array([0.1], np.float32),
        }
    if recipe.rule == "svm":
        dual, gamma = 5 * np.eye(count, dtype=np.float32), np.array([1.5], np.float32)
        return {"x": means, "dual": dual, "intercept": np.zeros(count, np.float32), "gamma": gamma}
    return {}


def card_of(recipe: Recipe) -> ModelCard:
    """What model.json says of the recipe."""
    return ModelCard(
        backbone="test",
        spec=recipe.spec,
        feature_length=recipe.feature_length,
        labels=recipe.labels,
        head=recipe.head,
        rule=recipe.rule,
        method="finetune",
    )


def _inputs(recipe: Recipe, generator: np.random.Generator) -> NDArray[Any]:
    if recipe.spec.is_image:
        return generator.integers(0, 256, (8, *recipe.shape), dtype=np.uint8)
    return generator.standard_normal((8, *recipe.shape)).astype(np.float32)


def _graph(recipe: Recipe, matrix: Floats) -> bytes:
    kind = TensorProto.UINT8 if recipe.spec.is_image else TensorProto.FLOAT
    nodes = [helper.make_node("Identity", ["input"], ["features"])]
    if recipe.spec.is_image:
        nodes = [
            helper.make_node("Cast", ["input"], ["cast"], to=TensorProto.FLOAT),
            helper.make_node("Div", ["cast", "full"], ["scaled"]),
            helper.make_node("Flatten", ["scaled"], ["flat"], axis=1),
            helper.make_node("MatMul", ["flat", "matrix"], ["features"]),
        ]
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("input", kind, ["N", *recipe.shape])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", recipe.feature_length])],
        [numpy_helper.from_array(np.array(255, np.float32), "full"), numpy_helper.from_array(matrix, "matrix")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


FROZEN_LENGTH = 5
"""Features of `small_backbone`."""


def small_backbone(seed: int = 0, **changes: Any) -> FrozenBackbone:
    """A small one: each feature is a weighted sum of an image's pixels."""
    matrix = np.random.default_rng(seed).standard_normal((4 * 4 * 3, FROZEN_LENGTH)) / 255
    graph = GraphWriter()
    flat = graph.add("Flatten", graph.add("Cast", "input", to=1), axis=1)
    features = graph.add("MatMul", flat, graph.floats(matrix))
    made = FrozenBackbone(
        name=f"test {seed}",
        spec=InputSpec((4, 4, 3), "uint8"),
        feature_length=FROZEN_LENGTH,
        parts=(("all", FROZEN_LENGTH),),
        shorter_side=0,
        licence="Apache-2.0",
        source="a generator of random numbers",
        graph=graph.finish(features, shape=(4, 4, 3), length=FROZEN_LENGTH),
    )
    return dataclasses.replace(made, **changes)


def write_frozen_artifact(
    folder: pathlib.Path, store: BackboneStore, digest: str, *, seed: int = 0, **changes: Any
) -> pathlib.Path:
    """A version with a random linear head on a frozen backbone."""
    generator = np.random.default_rng(seed)
    weight = generator.standard_normal((3, FROZEN_LENGTH)).astype(np.float32)
    fields: dict[str, Any] = {
        "backbone": "test",
        "spec": InputSpec((4, 4, 3), "uint8"),
        "feature_length": FROZEN_LENGTH,
        "labels": ("ant", "bee", "cat"),
        "head": "linear",
        "rule": "head",
        "method": "analytic",
        "frozen": digest,
    }
    head = {"weight": weight, "bias": np.zeros(3, np.float32), "means": weight}
    card = ModelCard(**(fields | changes))
    writer.write_head(folder, card, head=head, golden_features=store.golden(digest).features)
    return folder
