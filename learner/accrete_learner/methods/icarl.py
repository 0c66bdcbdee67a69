"""iCaRL (Rebuffi et al., CVPR 2017), with herded exemplars, distillation by sigmoids, nearest mean of exemplars.

Rule `head` instead of `nme` is the paper's hybrid1.
"""

from accrete_learner.heads import HeadChoice
from accrete_learner.losses import BinaryDistillation
from accrete_learner.methods.base import Method
from accrete_learner.training.schedule import Schedule

# Section 4 and the authors' code: 70 epochs, rate 2.0, divided by 5 after 49 and 63, penalty 1e-5 * |w|^2, on a loss
# that is the mean over 100 outputs. Ours is their sum: equal updates need a rate of 2.0 / 100, a decay of 100 * 2e-5.
SCHEDULE = Schedule(epochs=70, learning_rate=0.02, milestones=(49, 63), decay=0.2, weight_decay=2e-3)

ICARL = Method(
    name="icarl",
    selection="herding",
    head=HeadChoice(kind="linear"),
    terms=(BinaryDistillation(),),
    base=SCHEDULE,
    increment=SCHEDULE,
    rule="nme",
)

METHODS = (ICARL,)
