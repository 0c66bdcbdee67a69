"""Backbones turn a batch of examples, exactly as stored, into features.

`build` is the one way in; a backbone is known by its name in the configuration.
"""

from accrete_learner.backbones.base import Backbone
from accrete_learner.backbones.building import build

__all__ = ["Backbone", "build"]
