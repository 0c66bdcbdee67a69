"""Joint training: every step anew on all examples of all classes; the upper bound, if the memory may hold all."""

from accrete_learner.heads import HeadChoice
from accrete_learner.losses import CrossEntropy
from accrete_learner.methods.base import Method
from accrete_learner.methods.finetune import BASE

METHODS = (
    Method(
        name="joint",
        selection="random",
        head=HeadChoice(kind="linear"),
        terms=(CrossEntropy(),),
        base=BASE,
        increment=BASE,
        restart=True,
    ),
)
