"""Feature extraction, which keeps the backbone of the first step and trains the new classes' rows alone.

Source: the baseline of Li and Hoiem, Learning without Forgetting (ECCV 2016), section 2.
"""

from accrete_learner.heads import HeadChoice
from accrete_learner.losses import CrossEntropy
from accrete_learner.methods.base import Method
from accrete_learner.methods.finetune import BASE, INCREMENT

METHODS = (
    Method(
        name="feature_extraction",
        selection=None,
        head=HeadChoice(kind="linear", freeze_old=True),
        terms=(CrossEntropy(among_new=True),),
        base=BASE,
        increment=INCREMENT,
        frozen="increments",
    ),
)
