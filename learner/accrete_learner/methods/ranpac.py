"""A head in closed form on a frozen backbone: RanPAC (McDonnell et al., NeurIPS 2023).

For those who bring a good backbone: `identity` or pre-trained weights. Without, the first step trains the backbone and
later ones leave it, which is analytic class-incremental learning (ACIL, Zhuang et al., NeurIPS 2022): it finds the same
solution by recursion. No exemplars.
"""

from accrete_learner.heads import HeadChoice
from accrete_learner.heads.ridge import Ridge
from accrete_learner.losses import CrossEntropy
from accrete_learner.methods.base import Method
from accrete_learner.methods.finetune import BASE

RANPAC = Method(
    name="ranpac",
    selection=None,
    head=HeadChoice(kind="linear"),
    terms=(CrossEntropy(),),
    base=BASE,
    increment=BASE,
    frozen="increments",
    closed_form=Ridge(),
)

METHODS = (RANPAC,)
