"""Loss terms, one algorithm a file; a method names the terms it sums."""

from accrete_learner.losses.base import Batch, Term
from accrete_learner.losses.binary_cross_entropy import BinaryCrossEntropy
from accrete_learner.losses.binary_distillation import BinaryDistillation
from accrete_learner.losses.cross_entropy import CrossEntropy
from accrete_learner.losses.distillation import Distillation
from accrete_learner.losses.less_forget import LessForget
from accrete_learner.losses.margin_ranking import MarginRanking

__all__ = [
    "Batch",
    "BinaryCrossEntropy",
    "BinaryDistillation",
    "CrossEntropy",
    "Distillation",
    "LessForget",
    "MarginRanking",
    "Term",
]
