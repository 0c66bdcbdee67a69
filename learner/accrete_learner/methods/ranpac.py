"""RanPAC, a head in closed form on a frozen backbone, without exemplars (McDonnell et al., NeurIPS 2023).

It is made for a good backbone, so for `identity` or pre-trained weights. Without these, the first step trains the
backbone and later ones keep it, which is analytic class-incremental learning. That (ACIL, Zhuang et al., NeurIPS 2022)
finds the same solution by recursion.

`ranpac_blocks` is ours: it sees means and deviations of all blocks, whitened. A network that was trained on few classes
has made its last features for these; earlier ones still hold what tells others apart.
"""

from dataclasses import replace

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

BLOCKS = replace(RANPAC, name="ranpac_blocks", features="blocks")

METHODS = (RANPAC, BLOCKS)
