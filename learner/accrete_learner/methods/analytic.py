"""A shrunk linear discriminant in closed form on a frozen backbone (see `accrete_learner.analytic`).

On a backbone that brings its weights the learner's process runs it, without a trainer. Here it is a method like the
others, for protocols and for networks that are trained in the first step and kept by later ones.
"""

from accrete_learner.heads import HeadChoice
from accrete_learner.heads.closed_form import Discriminant
from accrete_learner.losses import CrossEntropy
from accrete_learner.methods.base import Method
from accrete_learner.methods.finetune import BASE

ANALYTIC = Method(
    name="analytic",
    selection=None,
    head=HeadChoice(kind="linear"),
    terms=(CrossEntropy(),),
    base=BASE,
    increment=BASE,
    frozen="increments",
    closed_form=Discriminant(),
)

METHODS = (ANALYTIC,)
