"""Fine-tuning on new examples alone, the lower bound that other methods are compared with.

`replay` also trains on the exemplars, and does nothing about their small number.
"""

from dataclasses import replace

from accrete_learner.heads import HeadChoice
from accrete_learner.losses import CrossEntropy
from accrete_learner.methods.base import Method
from accrete_learner.training.schedule import Schedule

# Epochs, rates and decays as PyCIL runs it on CIFAR-100.
BASE = Schedule(epochs=200, learning_rate=0.1, milestones=(60, 120, 170), weight_decay=5e-4)
INCREMENT = Schedule(epochs=80, learning_rate=0.1, milestones=(40, 70), weight_decay=2e-4)

FINETUNE = Method(
    name="finetune",
    selection=None,
    head=HeadChoice(kind="linear"),
    terms=(CrossEntropy(),),
    base=BASE,
    increment=INCREMENT,
)

METHODS = (FINETUNE, replace(FINETUNE, name="replay", selection="herding"))
