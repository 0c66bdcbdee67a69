"""The backbone as an ONNX graph, traced once and then filled with each later step's weights.

A graph keeps every weight under its name in the backbone, and is stamped with what traced it. A step whose parent has
such a graph puts its own weights into a copy, which is the graph of a new trace without the seconds that one takes. So
does a step that has traced its network already, to see before its training that it can be.
"""

import copy
import io
import warnings
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import onnx
import torch
from onnx import helper, numpy_helper

from accrete_learner.backbones import Backbone

OPSET = 17
"""Every ONNX Runtime since 1.12 reads it, and the networks need nothing newer."""
_STAMP = "accrete"
_TRACED_BY = f"{metadata.version('accrete')}, torch {torch.__version__}"
"""Another release may build or trace a network otherwise."""
_kept: dict[Hashable, bytes] = {}
"""Graphs of the networks that this process has traced, without weights."""


def export_graph(backbone: Backbone, parent: Path | None = None, *, network: Hashable = None) -> bytes:
    """Return the backbone as ONNX, from "input" uint8 [N, H, W, C] or float32 [N, d] to "features" float32 [N, d].

    Args:
        backbone: float32 on the CPU, in evaluation mode.
        parent: file with a graph of the same network with other weights, if there is one.
        network: all that the network is built by but its weights. Of networks that are alike in it one is traced.

    Raises:
        ValueError: when ONNX has no form for one of the backbone's layers at this image size.
        OSError: when the parent's graph cannot be read.
    """
    graph = None
    if parent is not None:
        graph = _filled(onnx.load(parent, load_external_data=False), backbone)
    elif network in _kept:
        graph = _filled(onnx.load_model_from_string(_kept[network]), backbone)
    if graph is not None:
        return bytes(graph.SerializeToString())
    graph = _traced(backbone)
    found = bytes(graph.SerializeToString())
    if network is not None:
        for place in graph.graph.initializer:
            place.ClearField("raw_data")
        _kept[network] = graph.SerializeToString()
    return found


def _traced(backbone: Backbone) -> onnx.ModelProto:
    graph = _trace(_distinct(backbone))
    helper.set_model_props(graph, {_STAMP: _TRACED_BY})
    filled = _filled(graph, backbone)
    return _trace(backbone) if filled is None else filled


def _distinct(backbone: Backbone) -> Backbone:
    """Return a copy in which no two weights are alike, since the exporter makes one of two that are.

    A later step would then have two weights for one place. Two layers whose biases began at 0 and are added to one sum
    have equal biases for good, so such weights are common.
    """
    copied = copy.deepcopy(backbone)
    for number, weight in enumerate(copied.state_dict().values(), start=1):
        if weight.is_floating_point():
            weight.view(-1)[:1] = number
    return copied


def _filled(graph: onnx.ModelProto, backbone: Backbone) -> onnx.ModelProto | None:
    """Fill `graph` with the backbone's weights.

    Returns:
        The graph, or None when another release made it or a tensor in it is none of the weights.
    """
    weights = {name: tensor.numpy() for name, tensor in backbone.state_dict().items()}
    if not _is_stamped(graph):
        return None
    for place in graph.graph.initializer:
        weight = weights.get(place.name)
        if weight is None:
            return None
        filled = numpy_helper.from_array(weight, place.name)
        if (filled.dims, filled.data_type) != (place.dims, place.data_type):
            return None
        place.CopyFrom(filled)
    return graph


def _is_stamped(graph: onnx.ModelProto) -> bool:
    return any((prop.key, prop.value) == (_STAMP, _TRACED_BY) for prop in graph.metadata_props)


def _trace(backbone: Backbone) -> onnx.ModelProto:
    dtype = torch.float32 if len(backbone.input_shape) == 1 else torch.uint8
    example = torch.zeros((2, *backbone.input_shape), dtype=dtype)
    graph = io.BytesIO()  # a file would have to be a temporary one, and there may be no folder for these
    with _tracing():
        try:
            torch.onnx.export(
                backbone,
                (example,),
                graph,  # type: ignore[arg-type] # this exporter takes it; the annotation is the other's
                dynamo=False,
                opset_version=OPSET,
                input_names=["input"],
                output_names=["features"],
                dynamic_axes={"input": {0: "N"}, "features": {0: "N"}},
                # Weights are neither merged nor computed with here, so that they keep their names; engines do both.
                training=torch.onnx.TrainingMode.PRESERVE,
                do_constant_folding=False,
            )
        except torch.onnx.OnnxExporterError as error:
            # The exporter appends advice and its whole graph to the reason.
            fault = str(error).partition(". Please feel free")[0].partition("\n")[0]
            raise ValueError(f"the backbone cannot be served with inputs of {backbone.input_shape}: {fault}") from error
    return onnx.load_model_from_string(graph.getvalue())


@contextmanager
def _tracing() -> Iterator[None]:
    """Trace attention in its plain form, which ONNX has, and without warnings about what is intended."""
    fast_attention = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    with warnings.catch_warnings():
        # This exporter needs no second package and covers all that is used here, but is deprecated.
        warnings.filterwarnings("ignore", "You are using the legacy TorchScript", DeprecationWarning)
        warnings.filterwarnings("ignore", "The feature will be removed", DeprecationWarning)
        # Some of torchvision's networks branch on the image's size, which is fixed here; the batch's size stays free.
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)  # type: ignore[attr-defined]
        try:
            yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fast_attention)
