"""Any network from images to features that comes as an ONNX file: CLIP, DINOv2, MobileNet, face embeddings.

What lies between an image as it is stored and such a network's input (layout, order of channels, mean, deviation) is
put in front of it. What it gives is averaged over positions, joined and scaled behind it. The whole is one graph, as
that of any other frozen backbone is.

All that can be wrong with it is found when it is built, by running it.

Shapes: N images, S pixels of height and width, C channels, T tokens, d features.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, compose, helper

from accrete_model.config import EngineConfig
from accrete_model.engines.onnxruntime_ import session
from accrete_model.errors import LoadError
from accrete_model.frozen.backbone import FrozenBackbone
from accrete_model.frozen.graph import GraphWriter
from accrete_model.golden import TOLERANCE
from accrete_model.input_spec import InputSpec

PREFIX = "onnx:"
"""What `model.backbone` begins with when a file's path follows."""
USUAL_SIZE = 224
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
OTHER_WEIGHT = 0.4
"""Length of the part of each output but the first in a feature vector, where the first one's is 1."""

Layout = Literal["auto", "nchw", "nhwc"]
ChannelOrder = Literal["rgb", "bgr"]
Tokens = Literal["mean", "first"]

_OLDEST_OPSET = 11
_OLDEST_IR = 7  # from which on a graph's constants need not be inputs too
_INSIDE = "network/"
"""Begins the names of the file's own values, which might else be those of what is put around it."""
_LARGEST_STATISTIC = 2.0
"""A mean or deviation above it is one of pixels in 0 to 255."""


class FormError(ValueError):
    """The file cannot be used with these settings. The message names the setting, its value and what to do."""


@dataclass(frozen=True, kw_only=True)
class OnnxForm:
    """How the network takes its images, and what to take of what it gives: settings of `model`, by their names."""

    input_size: int = 0
    """S; 0: what the file says, or 224 where it leaves that open."""
    channels: int = 3
    layout: Layout = "auto"
    channel_order: ChannelOrder = "rgb"
    mean: tuple[float, ...] = ()
    """Per channel or one for all, for pixels in 0 to 1. Empty: ImageNet's."""
    std: tuple[float, ...] = ()
    """Likewise."""
    outputs: tuple[str, ...] = ()
    """Names of the outputs, or of values inside the network, that are joined. Empty: its only output."""
    tokens: Tokens = "mean"
    """What is taken of an output [N, T, d]."""


def path_of(backbone: str) -> Path:
    """Return the file that "onnx:FILE" names."""
    return Path(backbone.removeprefix(PREFIX)).expanduser()


def own_size(path: Path, layout: Layout = "auto") -> int:
    """Return the pixels of height and width that a file's network takes, 224 where it leaves that open.

    Raises:
        FormError: when the file cannot be read, or its network takes no images.
    """
    model = _read(path, whole=False)
    return _Input.of(model, path, OnnxForm(layout=layout)).own_size or USUAL_SIZE


def build(path: Path, form: OnnxForm) -> FrozenBackbone:
    """Return the backbone that a file and its form are, after running it.

    Raises:
        FormError: naming the setting, its value and what to do.
    """
    model = _read(path, whole=True)
    source = hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()
    found = _Input.of(model, path, form)
    outputs = _outputs(model, path, form.outputs)
    wrapped = _Wrapped(model, found, form, outputs, path)
    parts = [_Part.of(name, value, form, found, path) for name, value in wrapped.probe().items()]
    return FrozenBackbone(
        name=f"{PREFIX}{path.name}",
        spec=InputSpec(wrapped.shape, "uint8"),
        feature_length=sum(part.length for part in parts),
        parts=tuple((part.name, part.length) for part in parts),
        shorter_side=0,
        licence="",
        source=f"{path.name}, SHA-256 of its graph {source}",
        graph=wrapped.finish(parts),
    )


@dataclass(frozen=True, kw_only=True)
class _Input:
    """The network's input, as far as the file says."""

    name: str
    number: int
    """Type of its numbers, of `TensorProto.DataType`."""
    layout: Literal["nchw", "nhwc"]
    own_size: int
    """S; 0: left open."""

    @classmethod
    def of(cls, model: onnx.ModelProto, path: Path, form: OnnxForm) -> _Input:
        constants = {tensor.name for tensor in model.graph.initializer}
        inputs = [entry for entry in model.graph.input if entry.name not in constants]
        if len(inputs) != 1:
            names = ", ".join(repr(entry.name) for entry in inputs) or "none"
            raise _wrong(path, f"it has the inputs {names}; one, for images, is expected: export that part alone")
        tensor = inputs[0].type.tensor_type
        dims = [size.dim_value for size in tensor.shape.dim]  # 0: left open
        shape = _shown(dims)
        if len(dims) != 4 or tensor.elem_type not in (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UINT8):
            kind = TensorProto.DataType.Name(tensor.elem_type).lower()
            raise _wrong(path, f"its input is {kind} {shape}; images, 4 dimensions of float or uint8, are expected")
        layout = _layout(dims, path, form)
        height, width, channels = (dims[2], dims[3], dims[1]) if layout == "nchw" else (dims[1], dims[2], dims[3])
        if height and width and height != width:
            raise _wrong(path, f"it takes images of {width} x {height} pixels; square ones are expected")
        if channels not in (0, form.channels):
            raise FormError(f"model.channels = {form.channels}: {path} takes {shape}; set model.channels = {channels}")
        own = height or width
        if form.input_size and own and form.input_size != own:
            raise FormError(
                f"model.input_size = {form.input_size}: {path} takes images of {own} x {own} pixels; set "
                f"model.input_size = {own}, or 0 for what the file says"
            )
        return cls(name=inputs[0].name, number=tensor.elem_type, layout=layout, own_size=own)


@dataclass(frozen=True, kw_only=True)
class _Part:
    """One of the network's outputs, and what becomes of it."""

    name: str
    rank: int
    length: int

    @classmethod
    def of(cls, name: str, value: NDArray[Any], form: OnnxForm, found: _Input, path: Path) -> _Part:
        channels_first = value.ndim == 4 and found.layout == "nchw"
        if value.ndim not in (2, 3, 4) or value.dtype.kind != "f":
            shape = ["N", *value.shape[1:]]
            raise FormError(
                f"model.outputs = {list(form.outputs)}: {name!r} of {path} is {value.dtype} {_shown(shape)}; a vector "
                "[N, d], tokens [N, T, d] or an image of features, 4 dimensions, of floats, is expected"
            )
        return cls(name=name, rank=value.ndim, length=value.shape[1 if channels_first else -1])


class _Wrapped:
    """The file's network with its input's form in front of it, and then what joins its outputs behind it."""

    def __init__(
        self, model: onnx.ModelProto, found: _Input, form: OnnxForm, outputs: Sequence[str], path: Path
    ) -> None:
        self._path = path
        self._form = form
        self._layout = found.layout
        self._outputs = outputs
        size = form.input_size or found.own_size or USUAL_SIZE
        self.shape = (size, size, form.channels)
        self._opset = _opset(model, path)
        scale, shift = _scaling(form, found, path)
        self._model = compose.add_prefix(model, _INSIDE, inplace=True)
        graph = self._model.graph
        front = GraphWriter(self._opset)
        pixels = front.add("Cast", "input", to=TensorProto.FLOAT)
        if form.channel_order == "bgr":
            pixels = front.add("Gather", pixels, front.constant(np.array([2, 1, 0])), axis=3)
        if found.number != TensorProto.UINT8:
            pixels = front.scaled(pixels, scale, shift)
        if found.layout == "nchw":
            pixels = front.add("Transpose", pixels, perm=[0, 3, 1, 2])
        front.nodes.append(helper.make_node("Cast", [pixels], [_INSIDE + found.name], to=found.number))
        nodes = [*front.nodes, *graph.node]
        del graph.node[:], graph.input[:], graph.output[:]
        # What the file says of values inside may hold for the size of batch alone with which it was exported.
        del graph.value_info[:]
        graph.node.extend(nodes)
        graph.initializer.extend(front.constants)
        graph.input.append(helper.make_tensor_value_info("input", TensorProto.UINT8, ["N", *self.shape]))
        self._model.ir_version = max(self._model.ir_version, _OLDEST_IR)

    def probe(self) -> dict[str, NDArray[Any]]:
        """Return what made-up images give at each output, after checking that it makes sense."""
        graph = self._model.graph
        graph.output.extend(onnx.ValueInfoProto(name=_INSIDE + name) for name in self._outputs)
        try:
            running = session(self._bytes(), EngineConfig(device="cpu"))
        except LoadError as error:
            raise _wrong(
                self._path, f"ONNX Runtime refuses it with images {_shown(self.shape)}: {_one_line(error)}"
            ) from error
        finally:
            del graph.output[:]
        images = np.random.default_rng(0).integers(0, 256, (3, *self.shape), dtype=np.uint8)
        images[0] //= 4
        single = [self._run(running, images[number : number + 1]) for number in range(3)]
        try:
            together = self._run(running, images)
        except FormError as error:
            raise _wrong(self._path, f"{_DYNAMIC} ({_one_line(error)})") from error
        found = dict(zip(self._outputs, together, strict=True))
        for place, (name, value) in enumerate(found.items()):
            self._check(name, value, [values[place] for values in single])
        return found

    def finish(self, parts: Sequence[_Part]) -> bytes:
        """Return the graph from "input" to "features", of the parts joined."""
        behind = GraphWriter(self._opset, begin="behind_")
        values = [behind.unit(self._vector(behind, part)) for part in parts]
        weights = [1.0, *[OTHER_WEIGHT] * (len(parts) - 1)]
        share = sum(weight**2 for weight in weights) ** -0.5
        scaled = [
            behind.add("Mul", value, behind.floats(weight * share))
            for value, weight in zip(values, weights, strict=True)
        ]
        joined = behind.add("Concat", *scaled, axis=1)
        behind.nodes.append(helper.make_node("Identity", [joined], ["features"]))
        graph = self._model.graph
        graph.node.extend(behind.nodes)
        graph.initializer.extend(behind.constants)
        length = sum(part.length for part in parts)
        graph.output.append(helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", length]))
        return self._bytes()

    def _vector(self, behind: GraphWriter, part: _Part) -> str:
        """Add one vector [N, d] for each image, and return its name."""
        value = behind.add("Cast", _INSIDE + part.name, to=TensorProto.FLOAT)
        if part.rank == 2:
            return value
        if part.rank == 3 and self._form.tokens == "first":
            return behind.add("Gather", value, behind.constant(np.array(0)), axis=1)
        if part.rank == 3:
            value = behind.add("Transpose", value, perm=[0, 2, 1])
        elif self._layout == "nhwc":
            value = behind.add("Transpose", value, perm=[0, 3, 1, 2])
        return behind.add("Flatten", behind.add("GlobalAveragePool", value), axis=1)

    def _run(self, running: Any, images: NDArray[np.uint8]) -> list[NDArray[Any]]:
        try:
            values: list[NDArray[Any]] = running.run([_INSIDE + name for name in self._outputs], {"input": images})
        except Exception as error:  # ONNX Runtime's own kinds, straight from Exception
            reason = f"ONNX Runtime cannot run it with images {_shown(self.shape)}: {_one_line(error)}"
            raise _wrong(self._path, reason) from error
        return values

    def _check(self, name: str, value: NDArray[Any], single: Sequence[NDArray[Any]]) -> None:
        what = f"{name!r} of {self._path}"
        if value.shape[:1] != (3,):
            raise _wrong(self._path, f"{name!r} is {_shown(value.shape)} for 3 images; {_DYNAMIC}")
        if not np.isfinite(value).all():
            raise FormError(f"{what} gives values that are not finite: are model.mean and model.std those of the file?")
        largest = float(np.abs(value).max())
        if any(np.abs(value[row] - one[0]).max() > TOLERANCE * largest for row, one in enumerate(single)):
            raise _wrong(self._path, f"an image's {name!r} depends on the other images: export it for inference")
        if np.abs(value - value[:1]).max() <= 1e-6 * largest:
            raise FormError(f"{what} is the same for different images: name another in model.outputs")

    def _bytes(self) -> bytes:
        try:
            return bytes(self._model.SerializeToString(deterministic=True))
        except Exception as error:  # one of protobuf's own kinds
            raise _wrong(self._path, f"it is larger than the 2 GB that an ONNX graph may have: {error}") from error


_DYNAMIC = (
    "it takes batches of one size alone: export it with a dynamic batch axis, as "
    "torch.onnx.export(..., dynamic_axes={'input': {0: 'N'}}) does"
)


def _wrong(path: Path, reason: str) -> FormError:
    return FormError(f"model.backbone = '{PREFIX}{path}': {reason}")


def _shown(shape: Sequence[object]) -> str:
    return f"[{', '.join(str(size or 'any') for size in shape)}]"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _read(path: Path, *, whole: bool) -> onnx.ModelProto:
    """Read a file, with the weights that it may keep in files beside it if `whole`."""
    try:
        model = onnx.load(path, load_external_data=whole)
    except OSError as error:
        raise _wrong(path, f"{error.strerror or error}; name an ONNX file that is there") from error
    except Exception as error:  # protobuf's own kinds and the library's, of several families
        raise _wrong(path, f"it is no ONNX file, or its weights are not beside it: {_one_line(error)}") from error
    if not model.graph.node:
        raise _wrong(path, "it is no ONNX file: it has no network")
    return model


def _layout(dims: Sequence[int], path: Path, form: OnnxForm) -> Literal["nchw", "nhwc"]:
    fits: list[Literal["nchw", "nhwc"]] = []
    if dims[1] in (1, 3):
        fits.append("nchw")
    if dims[3] in (1, 3):
        fits.append("nhwc")
    if form.layout == "auto":
        if len(fits) == 1:
            return fits[0]
        raise FormError(
            f"model.layout = 'auto': {path} takes {_shown(dims)}, which does not tell; set 'nchw' (channels before "
            "height and width) or 'nhwc' (after them)"
        )
    if fits and form.layout not in fits:
        raise FormError(
            f"model.layout = {form.layout!r}: {path} takes {_shown(dims)}; set model.layout = {fits[0]!r}, or 'auto'"
        )
    return form.layout


def _outputs(model: onnx.ModelProto, path: Path, wanted: Sequence[str]) -> list[str]:
    own = [entry.name for entry in model.graph.output]
    if not wanted:
        if len(own) == 1:
            return own
        names = ", ".join(own)
        raise FormError(f"model.outputs = []: {path} has the outputs {names}; name one, or several to be joined")
    known = [name for node in model.graph.node for name in node.output if name]
    for name in wanted:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3)
            hint = f"; near it: {', '.join(near)}" if near else ""
            raise FormError(
                f"model.outputs = {list(wanted)}: {path} computes no {name!r}; its outputs are {', '.join(own)}{hint}"
            )
    if len(set(wanted)) != len(wanted):
        raise FormError(f"model.outputs = {list(wanted)}: a name appears twice")
    return list(wanted)


def _opset(model: onnx.ModelProto, path: Path) -> int:
    opset = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    if opset < _OLDEST_OPSET:
        raise _wrong(path, f"it is of opset {opset}; export it with {_OLDEST_OPSET} or later")
    return opset


def _scaling(form: OnnxForm, found: _Input, path: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return what a pixel in 0 to 255 is multiplied by, and what is added then, per channel."""
    if form.channel_order == "bgr" and form.channels != 3:
        raise FormError("model.channel_order = 'bgr': must be 'rgb' for grey images")
    if found.number == TensorProto.UINT8:
        for name, given in (("mean", form.mean), ("std", form.std)):
            if given:
                raise FormError(
                    f"model.{name} = {list(given)}: {path} takes uint8 and scales it itself; leave it empty"
                )
    mean = _statistic("mean", form.mean, IMAGENET_MEAN, form.channels)
    std = _statistic("std", form.std, IMAGENET_STD, form.channels)
    if (std <= 0).any():
        raise FormError(f"model.std = {list(form.std)}: numbers above 0 are allowed")
    return (1 / (255 * std)).astype(np.float32), (-mean / std).astype(np.float32)


def _statistic(name: str, given: Sequence[float], imagenet: Sequence[float], channels: int) -> NDArray[np.float64]:
    values = np.array(given or imagenet)
    if not given and channels == 1:
        values = values.mean(keepdims=True)
    if len(values) not in (1, channels):
        raise FormError(f"model.{name} = {list(given)}: one number, or {channels}, one per channel, are expected")
    if not np.isfinite(values).all() or np.abs(values).max() > _LARGEST_STATISTIC:
        raise FormError(f"model.{name} = {list(given)}: it is of pixels in 0 to 1; divide one of 0 to 255 by 255")
    return values
