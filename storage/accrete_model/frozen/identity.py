"""The backbone of applications that compute embeddings themselves: the embedding is the feature vector."""

from __future__ import annotations

from accrete_model.frozen.backbone import FrozenBackbone
from accrete_model.frozen.graph import GraphWriter
from accrete_model.input_spec import InputSpec

NAME = "identity"


def build(length: int) -> FrozenBackbone:
    """Return the backbone for embeddings of `length` numbers."""
    graph = GraphWriter()
    return FrozenBackbone(
        name=NAME,
        spec=InputSpec((length,), "float32"),
        feature_length=length,
        parts=(("embedding", length),),
        shorter_side=0,
        licence="",
        source="",
        graph=graph.finish(graph.add("Identity", "input"), shape=(length,), length=length),
    )
