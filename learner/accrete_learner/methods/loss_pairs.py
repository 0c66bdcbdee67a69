"""Pairs of a classification and a distillation loss, from the study of iCaRL's variants.

All else is as in iCaRL, whose own pair is BCE and BCE.
"""

from dataclasses import replace

from accrete_learner.losses import (
    BinaryCrossEntropy,
    CrossEntropy,
    MeanSquaredError,
    ScoreMatching,
    SigmoidDistillation,
)
from accrete_learner.methods.base import Method
from accrete_learner.methods.finetune import BASE
from accrete_learner.methods.icarl import ICARL

# With cross-entropy, iCaRL's rate of 0.02 learns too slowly in as many epochs.
_SOFTMAX = replace(BASE, epochs=70, milestones=(49, 63), decay=0.2)

METHODS: tuple[Method, ...] = (
    replace(
        ICARL,
        name="ce_mse",
        terms=(CrossEntropy(), ScoreMatching(on="softmax")),
        base=_SOFTMAX,
        increment=_SOFTMAX,
    ),
    replace(ICARL, name="bce_mse", terms=(BinaryCrossEntropy(among_new=True), ScoreMatching(on="sigmoid"))),
    replace(ICARL, name="mse_mse", terms=(MeanSquaredError(), ScoreMatching(on="sigmoid"))),
    replace(
        ICARL,
        name="ce_bce",
        terms=(CrossEntropy(), SigmoidDistillation()),
        base=_SOFTMAX,
        increment=_SOFTMAX,
    ),
)
