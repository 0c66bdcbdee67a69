"""Corrections, after training, of the bias towards the classes with more examples. Each is in a file of its own."""

from accrete_learner.rebalance.base import Rebalance, Trained
from accrete_learner.rebalance.bias_correction import BiasCorrection
from accrete_learner.rebalance.fine_tuning import BalancedFineTuning
from accrete_learner.rebalance.none import NoRebalance
from accrete_learner.rebalance.sequence import InSequence
from accrete_learner.rebalance.weight_aligning import WeightAligning

__all__ = [
    "BalancedFineTuning",
    "BiasCorrection",
    "InSequence",
    "NoRebalance",
    "Rebalance",
    "Trained",
    "WeightAligning",
]
