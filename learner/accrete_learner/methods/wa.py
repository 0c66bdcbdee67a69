"""WA (Zhao et al., Maintaining Discrimination and Fairness in Class Incremental Learning, CVPR 2020)."""

from dataclasses import replace

from accrete_learner.heads import HeadChoice
from accrete_learner.methods.base import Method
from accrete_learner.methods.bic import BIC
from accrete_learner.rebalance import WeightAligning

# Trained as BiC is (section 4.1), at the paper's 200 epochs.
_SCHEDULE = replace(BIC.base, epochs=200, milestones=(100, 150), weight_decay=2e-4)

METHODS: tuple[Method, ...] = (
    # Features pass a ReLU and rows are clipped, both as in the paper. Otherwise a row's length says little about its
    # scores.
    replace(
        BIC,
        name="wa",
        head=HeadChoice(kind="linear", non_negative=True),
        base=_SCHEDULE,
        increment=_SCHEDULE,
        rebalance=WeightAligning(),
        last_relu=True,
    ),
)
