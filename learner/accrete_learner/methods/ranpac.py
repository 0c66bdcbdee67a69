"""A head in closed form on a frozen backbone: RanPAC (McDonnell et al., NeurIPS 2023) and ACIL (Zhuang et al., NeurIPS 2022).

Both are the ridge regression of `accrete_learner.ridge`, for those who bring a good backbone: `identity` or pre-trained
weights. Without, the first step trains the backbone (ACIL, section 3.2) and later ones leave it. No exemplars.
"""

from dataclasses import replace

from accrete_learner.heads import HeadChoice
from accrete_learner.losses import CrossEntropy
from accrete_learner.methods.base import Method
from accrete_learner.methods.finetune import BASE
from accrete_learner.ridge import Ridge

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

# ACIL's expansion and penalty (section 4.1): 8,192 wide in its code; half of it fits a step on a CPU.
METHODS = (RANPAC, replace(RANPAC, name="acil", closed_form=Ridge(width=4096, penalty=1.0)))
