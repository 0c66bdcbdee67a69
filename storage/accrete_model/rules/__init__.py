"""From features to class scores: the heads and rules that a version may answer by, one a file, in numpy alone.

Each computes what its counterpart in the trainer computes; that the two agree, the golden outputs check at every load.
"""

from __future__ import annotations

from accrete_model.rules.base import Rule, StoredRule
from accrete_model.rules.cosine import Cosine
from accrete_model.rules.knn import Knn
from accrete_model.rules.linear import Linear
from accrete_model.rules.mlp import Mlp
from accrete_model.rules.nearest_mean import NearestMean
from accrete_model.rules.random_features import RandomFeatures
from accrete_model.rules.svm import Svm

__all__ = ["FITTED", "HEADS", "NearestMean", "Rule"]

#: By the name of the head in model.json; their tensors are in head.safetensors.
HEADS: dict[str, type[StoredRule]] = {"linear": Linear, "cosine": Cosine, "random_features": RandomFeatures}
#: By the name of the rule in model.json; their tensors are in rule.safetensors.
FITTED: dict[str, type[StoredRule]] = {"knn": Knn, "mlp": Mlp, "svm": Svm}
