"""Feature extractors that come as ONNX files: every form that they have, and what is told of a wrong one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from accrete_model.config import EngineConfig
from accrete_model.engines.onnxruntime_ import GraphEngine
from accrete_model.frozen import BackboneStore, FrozenBackbone, efficientnet_lite0
from accrete_model.frozen.onnx_file import FormError, Layout, OnnxForm, build, own_size

SIZE = 6
PLAIN: dict[str, Any] = {"mean": (0.0,), "std": (1 / 255,)}
"""Pixels as they are, 0 to 255."""


def network(
    path: Path,
    *,
    dims: tuple[Any, ...] = ("N", 3, SIZE, SIZE),
    number: int = TensorProto.FLOAT,
    opset: int = 17,
    nodes: list[onnx.NodeProto] | None = None,
    outputs: tuple[str, ...] = ("features",),
    external: bool = False,
) -> Path:
    """A network whose names are those that the wrapper uses itself: it mixes channels to 4, `deep`, and halves them."""
    matrix = np.random.default_rng(0).standard_normal((4, 3, 1, 1)).astype(np.float32)
    constants = [
        numpy_helper.from_array(matrix, "matrix"),
        numpy_helper.from_array(np.array([0.5], np.float32), "half"),
    ]
    if nodes is None:
        nodes = [
            helper.make_node("Conv", ["input", "matrix"], ["deep"]),
            helper.make_node("GlobalAveragePool", ["deep"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["flat"], axis=1),
            helper.make_node("Mul", ["flat", "half"], ["features"]),
        ]
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("input", number, dims)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.save(model, path, save_as_external_data=external, size_threshold=0)
    return path


def images(count: int = 3, channels: int = 3) -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (count, SIZE, SIZE, channels), dtype=np.uint8)


def features(made: FrozenBackbone, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
    engine = GraphEngine(made.graph, EngineConfig(device="cpu"))
    try:
        return engine.run(batch)
    finally:
        engine.close()


def unit(rows: NDArray[Any]) -> NDArray[Any]:
    scaled: NDArray[Any] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return scaled


def deep(pixels: NDArray[Any]) -> NDArray[Any]:
    """What `network` computes of pixels [N, H, W, 3] as they enter it."""
    matrix = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    return pixels @ matrix.T


@pytest.mark.parametrize(
    ("form", "entering"),
    [
        (PLAIN, lambda x: x),
        ({}, lambda x: (x / 255 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])),
        ({"mean": (0.5,), "std": (0.5,)}, lambda x: x / 127.5 - 1),
        ({**PLAIN, "channel_order": "bgr"}, lambda x: x[..., ::-1]),
        (
            {"mean": (0.1, 0.2, 0.3), "channel_order": "bgr", "std": (1.0,)},
            lambda x: x[..., ::-1] / 255 - [0.1, 0.2, 0.3],
        ),
    ],
)
def test_pixels_enter_as_the_form_says(tmp_path: Path, form: dict[str, Any], entering: Any):
    made = build(network(tmp_path / "net.onnx"), OnnxForm(**form))
    wanted = unit(deep(entering(images().astype(np.float64))).mean(axis=(1, 2)))
    np.testing.assert_allclose(features(made, images()), wanted, atol=1e-5)
    assert made.spec.shape == (SIZE, SIZE, 3)
    assert (made.feature_length, made.parts, made.name) == (4, (("features", 4),), "onnx:net.onnx")


def test_a_network_with_channels_last(tmp_path: Path):
    nodes = [
        helper.make_node("Transpose", ["input"], ["turned"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["turned", "matrix"], ["convolved"]),
        helper.make_node("Transpose", ["convolved"], ["features"], perm=[0, 2, 3, 1]),
    ]
    path = network(tmp_path / "net.onnx", dims=("N", SIZE, SIZE, 3), nodes=nodes)
    wanted = unit(deep(images().astype(np.float64)).mean(axis=(1, 2)))
    layouts: tuple[Layout, ...] = ("auto", "nhwc")
    for layout in layouts:
        made = build(path, OnnxForm(**PLAIN, layout=layout))
        np.testing.assert_allclose(features(made, images()), wanted, atol=1e-5)


@pytest.mark.parametrize("number", [TensorProto.UINT8, TensorProto.FLOAT16])
def test_networks_of_other_numbers(tmp_path: Path, number: int):
    cast = helper.make_node("Cast", ["input"], ["floats"], to=TensorProto.FLOAT)
    nodes = [cast, helper.make_node("Conv", ["floats", "matrix"], ["features"])]
    path = network(tmp_path / "net.onnx", number=number, nodes=nodes)
    made = build(path, OnnxForm() if number == TensorProto.UINT8 else OnnxForm(**PLAIN))
    wanted = unit(deep(images().astype(np.float64)).mean(axis=(1, 2)))
    np.testing.assert_allclose(features(made, images()), wanted, atol=1e-3)


@pytest.mark.parametrize("opset", [11, 13, 17, 18, 21])
def test_depths_are_joined_the_first_one_weighing_most(tmp_path: Path, opset: int):
    path = network(tmp_path / "net.onnx", opset=opset)
    made = build(path, OnnxForm(**PLAIN, outputs=("flat", "deep")))
    assert made.parts == (("flat", 4), ("deep", 4))
    mean = unit(deep(images().astype(np.float64)).mean(axis=(1, 2)))
    wanted = np.concatenate([mean, 0.4 * mean], axis=1) / np.sqrt(1.16)
    np.testing.assert_allclose(features(made, images()), wanted, atol=1e-5)


@pytest.mark.parametrize("tokens", ["mean", "first"])
def test_tokens_are_averaged_or_the_first_one_is_taken(tmp_path: Path, tokens: Any):
    shape = numpy_helper.from_array(np.array([0, 4, SIZE * SIZE]))
    nodes = [
        helper.make_node("Conv", ["input", "matrix"], ["deep"]),
        helper.make_node("Constant", [], ["shape"], value=shape),
        helper.make_node("Reshape", ["deep", "shape"], ["rows"]),
        helper.make_node("Transpose", ["rows"], ["features"], perm=[0, 2, 1]),
    ]
    made = build(network(tmp_path / "net.onnx", nodes=nodes), OnnxForm(**PLAIN, tokens=tokens))
    values = deep(images().astype(np.float64)).reshape(3, -1, 4)
    wanted = unit(values.mean(axis=1) if tokens == "mean" else values[:, 0])
    np.testing.assert_allclose(features(made, images()), wanted, atol=1e-5)


def test_grey_images(tmp_path: Path):
    node = helper.make_node("Expand", ["input", "shape"], ["colour"])
    shape = helper.make_node("Constant", [], ["shape"], value=numpy_helper.from_array(np.array([1, 3, 1, 1])))
    nodes = [shape, node, helper.make_node("Conv", ["colour", "matrix"], ["features"])]
    path = network(tmp_path / "net.onnx", dims=("N", 1, SIZE, SIZE), nodes=nodes)
    made = build(path, OnnxForm(channels=1))
    pixels = (images(channels=1) / 255 - 0.449) / 0.226
    wanted = unit(deep(pixels.repeat(3, axis=3)).mean(axis=(1, 2)))
    np.testing.assert_allclose(features(made, images(channels=1)), wanted, atol=1e-5)


def test_weights_in_a_file_beside_it_become_part_of_the_graph(tmp_path: Path):
    path = network(tmp_path / "net.onnx", external=True)
    (beside,) = (file for file in tmp_path.iterdir() if file != path)
    made = build(path, OnnxForm())
    wanted = features(build(network(tmp_path / "other.onnx"), OnnxForm()), images())
    np.testing.assert_array_equal(features(made, images()), wanted)
    beside.unlink()
    with pytest.raises(FormError, match="weights are not beside it|No such file|doesn't exist"):
        build(path, OnnxForm())


def test_a_size_that_the_file_leaves_open_is_the_settings_or_224(tmp_path: Path):
    path = network(tmp_path / "net.onnx", dims=("N", 3, "H", "W"))
    assert own_size(path) == build(path, OnnxForm()).spec.shape[0] == 224
    assert build(path, OnnxForm(input_size=SIZE)).spec.shape == (SIZE, SIZE, 3)
    assert own_size(network(path)) == SIZE


def test_a_batch_size_that_only_the_file_fixes_is_freed(tmp_path: Path):
    made = build(network(tmp_path / "net.onnx", dims=(1, 3, SIZE, SIZE)), OnnxForm())
    assert features(made, images(5)).shape == (5, 4)


def test_a_digest_depends_on_file_and_form_and_not_on_the_files_place(tmp_path: Path):
    (tmp_path / "elsewhere").mkdir()
    path, moved = network(tmp_path / "net.onnx"), network(tmp_path / "elsewhere" / "net.onnx")
    made = [build(path, OnnxForm()), build(moved, OnnxForm()), build(path, OnnxForm(mean=(0.5,)))]
    assert made[0].digest == made[1].digest != made[2].digest
    store = BackboneStore(tmp_path / "backbones")
    assert store.get(store.put(made[0])) == made[0]


def test_real_weights_give_what_they_give_without_the_file(tmp_path: Path):
    own = efficientnet_lite0.build(64)
    path = tmp_path / "lite0.onnx"
    path.write_bytes(own.graph)
    made = build(path, OnnxForm())
    batch = np.random.default_rng(1).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    np.testing.assert_allclose(features(made, batch), features(own, batch), atol=1e-6)
    assert made.feature_length == own.feature_length


TWO = ("features", "deep")
FIXED = [
    helper.make_node("Constant", [], ["shape"], value=numpy_helper.from_array(np.array([1, -1]))),
    helper.make_node("Reshape", ["input", "shape"], ["features"]),
]
COUPLED = [
    helper.make_node("ReduceMean", ["input"], ["mean"], axes=[0], keepdims=1),
    helper.make_node("Sub", ["input", "mean"], ["features"]),
]
CONSTANT = [
    helper.make_node("Mul", ["input", "zero"], ["nothing"]),
    helper.make_node("Add", ["nothing", "half"], ["features"]),
]
ZERO = helper.make_node("Constant", [], ["zero"], value=numpy_helper.from_array(np.array([0], np.float32)))
ENDLESS = [ZERO, helper.make_node("Div", ["input", "zero"], ["features"])]
SCALAR = [
    helper.make_node("ReduceMean", ["input"], ["features"], axes=[1, 2, 3], keepdims=0),
]
UNKNOWN = [helper.make_node("NoSuchOperator", ["input"], ["features"])]


@pytest.mark.parametrize(
    ("file", "form", "message"),
    [
        ({}, {"layout": "nhwc"}, "model.layout = 'nhwc': {} takes [any, 3, 6, 6]; set model.layout = 'nchw'"),
        ({"dims": ("N", "C", 6, 6)}, {}, "model.layout = 'auto': {} takes [any, any, 6, 6], which does not tell; set"),
        ({}, {"input_size": 8}, "model.input_size = 8: {} takes images of 6 x 6 pixels; set model.input_size = 6"),
        ({}, {"channels": 1}, "model.channels = 1: {} takes [any, 3, 6, 6]; set model.channels = 3"),
        ({"dims": ("N", 3, 6, 8)}, {}, "'onnx:{}': it takes images of 8 x 6 pixels; square ones are expected"),
        ({"dims": ("N", 3, 6)}, {}, "'onnx:{}': its input is float [any, 3, 6]; images, 4 dimensions"),
        ({"number": TensorProto.INT64}, {}, "its input is int64 [any, 3, 6, 6]"),
        ({}, {"mean": (0.5, 0.5)}, "model.mean = [0.5, 0.5]: one number, or 3, one per channel, are expected"),
        ({}, {"mean": (123.7, 116.3, 103.5)}, "model.mean = [123.7, 116.3, 103.5]: it is of pixels in 0 to 1; divide"),
        ({}, {"std": (0.0,)}, "model.std = [0.0]: numbers above 0 are allowed"),
        ({}, {"std": (float("nan"),)}, "model.std = [nan]: it is of pixels in 0 to 1"),
        ({"number": TensorProto.UINT8}, {"mean": (0.5,)}, "model.mean = [0.5]: {} takes uint8 and scales it itself"),
        ({}, {"outputs": ("flt",)}, "model.outputs = ['flt']: {} computes no 'flt'; its outputs are features; near"),
        ({}, {"outputs": ("flat", "flat")}, "model.outputs = ['flat', 'flat']: a name appears twice"),
        ({"outputs": TWO}, {}, "model.outputs = []: {} has the outputs features, deep; name one, or several"),
        ({"nodes": SCALAR}, {}, "model.outputs = []: 'features' of {} is float32 [N]; a vector [N, d]"),
        ({"nodes": FIXED}, {}, "'onnx:{}': 'features' is [1, 324] for 3 images; it takes batches of one size alone"),
        ({"nodes": COUPLED}, {}, "'onnx:{}': an image's 'features' depends on the other images: export it"),
        ({"nodes": [ZERO, *CONSTANT]}, {}, "'features' of {} is the same for different images"),
        ({"nodes": ENDLESS}, {}, "'features' of {} gives values that are not finite: are model.mean"),
        ({"nodes": UNKNOWN}, {}, "'onnx:{}': ONNX Runtime refuses it with images [6, 6, 3]: "),
        ({"opset": 9}, {}, "'onnx:{}': it is of opset 9; export it with 11 or later"),
        ({"dims": ("N", 3, "H", "W")}, {"channels": 1}, "model.channels = 1: {} takes [any, 3, any, any]; set"),
        ({"dims": ("N", "C", 6, 6)}, {"layout": "nchw", "channels": 1}, "Runtime cannot run it with images [6, 6, 1]"),
    ],
)  # fmt: skip
def test_a_wrong_form_is_told_with_the_setting_and_what_to_do(
    tmp_path: Path, file: dict[str, Any], form: dict[str, Any], message: str
):
    path = network(tmp_path / "net.onnx", **file)
    with pytest.raises(FormError, match=re.escape(message.replace("{}", str(path)))):
        build(path, OnnxForm(**form))


@pytest.mark.parametrize("content", [None, b"", b"no graph at all", b"\x08\x08"])
def test_what_is_no_onnx_file_is_told(tmp_path: Path, content: bytes | None):
    path = tmp_path / "net.onnx"
    if content is not None:
        path.write_bytes(content)
    reason = "No such file or directory; name an ONNX file that is there" if content is None else "it is no ONNX file"
    for work in (lambda: build(path, OnnxForm()), lambda: own_size(path)):
        with pytest.raises(FormError, match=f"model.backbone = 'onnx:{path}': {reason}"):
            work()
