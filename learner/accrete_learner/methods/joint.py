"""Joint training of every step from the beginning on all examples, the upper bound if the memory can hold them all."""

from accrete_learner.heads import HeadChoice
from accrete_learner.losses import CrossEntropy
from accrete_learner.methods.base import Method
from accrete_learner.methods.icarl import SCHEDULE

METHODS = (
    Method(
        name="joint",
        selection="random",
        head=HeadChoice(kind="linear"),
        terms=(CrossEntropy(),),
        # No paper gives it a schedule of its own. Of those here, this one trains cross-entropy best in few epochs, and
        # an upper bound must be trained well.
        base=SCHEDULE,
        increment=SCHEDULE,
        restart=True,
    ),
)
