"""Learning without Forgetting (Li and Hoiem, ECCV 2016): no exemplars; on new data, old scores stay what they were."""

from accrete_learner.heads import HeadChoice
from accrete_learner.losses import CrossEntropy, Distillation
from accrete_learner.methods.base import Method
from accrete_learner.schedule import Schedule

METHOD = Method(
    name="lwf",
    selection=None,
    head=HeadChoice(kind="linear"),
    # Weight 3, epochs, rates and decays as PyCIL runs it on CIFAR-100; T = 2 is the paper's (section 4).
    terms=(CrossEntropy(among_new=True), Distillation(temperature=2.0, weight=3.0)),
    base=Schedule(epochs=200, learning_rate=0.1, milestones=(60, 120, 170), weight_decay=5e-4),
    increment=Schedule(epochs=250, learning_rate=0.1, milestones=(60, 120, 180, 220), weight_decay=2e-4),
)
