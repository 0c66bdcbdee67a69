"""Backbones that no step trains: each is kept once by its digest, loaded once, and referred to by versions."""

from accrete_model.frozen.backbone import FrozenBackbone
from accrete_model.frozen.engine import acquire
from accrete_model.frozen.store import BackboneStore, GoldenFeatures

__all__ = ["BackboneStore", "FrozenBackbone", "GoldenFeatures", "acquire"]
