"""ACIL and DS-AL: the backbone is trained once, on the first classes, and its head is solved for ever after.

Both keep no exemplar. What they reach is decided by the first training, hence its length, its rate and its
augmentation, which are those of the authors' code.

Sources: Zhuang et al., ACIL: Analytic Class-Incremental Learning with Absolute Memorization and Privacy Protection
(NeurIPS 2022); Zhuang et al., DS-AL (AAAI 2024).
"""

from dataclasses import replace

from accrete_learner.heads.dual_stream import DualStream
from accrete_learner.heads.ridge import Ridge
from accrete_learner.methods.ranpac import RANPAC
from accrete_learner.training.schedule import Cosine

BASE = Cosine(epochs=300, learning_rate=0.5, batch_size=256, warmup_epochs=10, weight_decay=5e-4)
RIDGE = Ridge(width=8192, penalty=0.1)

ACIL = replace(
    RANPAC, name="acil", base=BASE, increment=BASE, augmentation="trivial", last_relu=True, closed_form=RIDGE
)

METHODS = (
    ACIL,
    replace(ACIL, name="ds_al", closed_form=DualStream(main=RIDGE)),
    replace(ACIL, name="acil_blocks", features="blocks", closed_form=replace(RIDGE, penalty=300.0)),
)
