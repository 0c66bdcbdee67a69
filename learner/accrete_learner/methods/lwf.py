"""Learning without Forgetting, which keeps the old scores on new data (Li and Hoiem, ECCV 2016).

`lwf` keeps no exemplars, as in the paper. `lwf_exemplars` keeps some, and is what the mnemonics paper's tables call
LwF. `lwf_mc` is the multi-class form of the iCaRL paper (section 4), with sigmoids and without exemplars.
"""

from dataclasses import replace

from accrete_learner.heads import HeadChoice
from accrete_learner.losses import BinaryDistillation, CrossEntropy, Distillation
from accrete_learner.methods.base import Method
from accrete_learner.methods.finetune import BASE
from accrete_learner.methods.icarl import ICARL
from accrete_learner.training.schedule import Schedule

LWF = Method(
    name="lwf",
    selection=None,
    head=HeadChoice(kind="linear"),
    # Weight 3, epochs, rates and decays as PyCIL runs it on CIFAR-100; T = 2 is the paper's (section 4).
    terms=(CrossEntropy(among_new=True), Distillation(temperature=2.0, weight=3.0)),
    base=BASE,
    increment=Schedule(epochs=250, learning_rate=0.1, milestones=(60, 120, 180, 220), weight_decay=2e-4),
)

# The mnemonics code: cosine head, frozen old rows, imprinting; cross-entropy over all, and distillation at T = 2 whose
# weight, beta T^2 n_old with beta = 0.25, is n_old. Epochs and rates are LUCIR's, whose code it grew from.
_MNEMONICS_SCHEDULE = Schedule(epochs=160, learning_rate=0.1, milestones=(80, 120), weight_decay=5e-4)
LWF_EXEMPLARS = Method(
    name="lwf_exemplars",
    selection="herding",
    head=HeadChoice(kind="cosine", imprint=True, freeze_old=True),
    terms=(CrossEntropy(), Distillation(temperature=2.0, per_old_class=1.0)),
    base=_MNEMONICS_SCHEDULE,
    increment=_MNEMONICS_SCHEDULE,
)

METHODS = (
    LWF,
    replace(ICARL, name="lwf_mc", selection=None, terms=(BinaryDistillation(),), rule="head"),
    LWF_EXEMPLARS,
)
