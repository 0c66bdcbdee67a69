"""LUCIR (Hou et al., CVPR 2019): cosine head, features that keep their direction, old classes kept apart from new ones.

Rule `head` is the paper's CNN column, `nme` its NME column.
"""

from accrete_learner.heads import HeadChoice
from accrete_learner.losses import CrossEntropy, LessForget, MarginRanking
from accrete_learner.methods.base import Method
from accrete_learner.rebalance import ClassBalancedFineTuning
from accrete_learner.schedule import Schedule

# Section 4.1, for CIFAR-100: every step alike.
_SCHEDULE = Schedule(epochs=160, learning_rate=0.1, milestones=(80, 120), weight_decay=5e-4)

METHOD = Method(
    name="lucir",
    selection="herding",
    head=HeadChoice(kind="cosine", imprint=True, freeze_old=True),
    terms=(CrossEntropy(), LessForget(base=5.0), MarginRanking(margin=0.5, hardest=2)),
    base=_SCHEDULE,
    increment=_SCHEDULE,
    rebalance=ClassBalancedFineTuning(),
)
