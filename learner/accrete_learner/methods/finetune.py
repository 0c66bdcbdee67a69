"""Fine-tuning: train on what is new and nothing else. It forgets; it is the lower bound that others are measured by."""

from accrete_learner.heads import HeadChoice
from accrete_learner.losses import CrossEntropy
from accrete_learner.methods.base import Method
from accrete_learner.schedule import Schedule

METHOD = Method(
    name="finetune",
    selection=None,
    head=HeadChoice(kind="linear"),
    terms=(CrossEntropy(),),
    # Epochs, rates and decays as PyCIL runs it on CIFAR-100.
    base=Schedule(epochs=200, learning_rate=0.1, milestones=(60, 120, 170), weight_decay=5e-4),
    increment=Schedule(epochs=80, learning_rate=0.1, milestones=(40, 70), weight_decay=2e-4),
)
