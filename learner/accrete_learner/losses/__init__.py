"""Loss terms, one algorithm per file. A method names the terms that it sums."""

from accrete_learner.losses.aligned_cross_entropy import AlignedCrossEntropy
from accrete_learner.losses.auxiliary_cross_entropy import AuxiliaryCrossEntropy
from accrete_learner.losses.balanced_distillation import BalancedDistillation
from accrete_learner.losses.base import Batch, Term
from accrete_learner.losses.binary_cross_entropy import BinaryCrossEntropy
from accrete_learner.losses.binary_distillation import BinaryDistillation
from accrete_learner.losses.block_distillation import BlockDistillation
from accrete_learner.losses.cross_entropy import CrossEntropy
from accrete_learner.losses.distillation import Distillation
from accrete_learner.losses.less_forget import LessForget
from accrete_learner.losses.margin_ranking import MarginRanking
from accrete_learner.losses.mean_squared_error import MeanSquaredError
from accrete_learner.losses.score_matching import ScoreMatching
from accrete_learner.losses.sigmoid_distillation import SigmoidDistillation

__all__ = [
    "AlignedCrossEntropy",
    "AuxiliaryCrossEntropy",
    "BalancedDistillation",
    "Batch",
    "BinaryCrossEntropy",
    "BinaryDistillation",
    "BlockDistillation",
    "CrossEntropy",
    "Distillation",
    "LessForget",
    "MarginRanking",
    "MeanSquaredError",
    "ScoreMatching",
    "SigmoidDistillation",
    "Term",
]
