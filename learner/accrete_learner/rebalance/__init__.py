"""What a method does after training against the bias towards new classes; one algorithm a file."""

from accrete_learner.rebalance.base import Rebalance
from accrete_learner.rebalance.class_balanced import ClassBalancedFineTuning
from accrete_learner.rebalance.none import NoRebalance

__all__ = ["ClassBalancedFineTuning", "NoRebalance", "Rebalance"]
