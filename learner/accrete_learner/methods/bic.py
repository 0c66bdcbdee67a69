"""BiC, which distils and then corrects the bias by two numbers.

Source: Wu et al., Large Scale Incremental Learning (CVPR 2019).
"""

from accrete_learner.heads import HeadChoice
from accrete_learner.losses import CrossEntropy, Distillation
from accrete_learner.methods.base import Method
from accrete_learner.rebalance import BiasCorrection
from accrete_learner.training.schedule import Schedule

# Section 5.1, for CIFAR-100.
_SCHEDULE = Schedule(epochs=250, learning_rate=0.1, milestones=(100, 150, 200), weight_decay=2e-4)

BIC = Method(
    name="bic",
    selection="herding",
    head=HeadChoice(kind="linear"),
    # Equations 1 to 3: cross-entropy and distillation share the weight 1 as new and old classes share their number.
    terms=(CrossEntropy(share=True), Distillation(temperature=2.0, share=True)),
    base=_SCHEDULE,
    increment=_SCHEDULE,
    rebalance=BiasCorrection(),
)

METHODS = (BIC,)
