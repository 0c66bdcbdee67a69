"""Writes ONNX graphs node by node."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
"""Every ONNX Runtime since 1.12 reads it."""
IR_VERSION = 8
"""The one that came with that opset; a fixed one, since the library's own number would change a graph's digest."""

_AXES_ARE_AN_INPUT = 18
"""The opset from which on reductions take their axes so."""


class GraphWriter:
    """A graph that grows; a value in it is known by its name."""

    def __init__(self, opset: int = OPSET, begin: str = "") -> None:
        """Begin an empty graph of `opset`, whose values' names begin with `begin`."""
        self._opset = opset
        self._begin = begin
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._count = 0

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output, and return the output's name."""
        name = self._name(kind)
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def constant(self, value: NDArray[Any]) -> str:
        """Add a tensor and return its name."""
        name = self._name("constant")
        self.constants.append(numpy_helper.from_array(np.asarray(value, order="C"), name))
        return name

    def floats(self, value: Any) -> str:
        """Add a tensor as float32 and return its name."""
        return self.constant(np.asarray(value, np.float32))

    def scaled(self, value: str, scale: Any, shift: Any) -> str:
        """Add value * scale + shift and return its name."""
        return self.add("Add", self.add("Mul", value, self.floats(scale)), self.floats(shift))

    def unit(self, value: str) -> str:
        """Add the rows of a value [N, d] at length 1, a zero row as it is, and return their name."""
        if self._opset < _AXES_ARE_AN_INPUT:
            length = self.add("ReduceL2", value, axes=[1], keepdims=1)
        else:
            length = self.add("ReduceL2", value, self.constant(np.array([1])), keepdims=1)
        return self.add("Div", value, self.add("Max", length, self.floats(1e-12)))

    def finish(self, value: str, *, shape: tuple[int, ...], length: int) -> bytes:
        """Return the graph from "input" [N, *shape] to "features", the float32 [N, length] called `value`.

        The input is uint8 for images [height, width, channels], else float32.
        """
        kind = TensorProto.UINT8 if len(shape) == 3 else TensorProto.FLOAT
        self.nodes.append(helper.make_node("Identity", [value], ["features"]))
        graph = helper.make_graph(
            self.nodes,
            "backbone",
            [helper.make_tensor_value_info("input", kind, ["N", *shape])],
            [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", length])],
            self.constants,
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", self._opset)],
            ir_version=IR_VERSION,
            producer_name="accrete",
        )
        return bytes(model.SerializeToString(deterministic=True))

    def _name(self, kind: str) -> str:
        self._count += 1
        return f"{self._begin}{kind.lower()}_{self._count}"
