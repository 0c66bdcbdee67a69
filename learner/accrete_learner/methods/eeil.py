"""End-to-End Incremental Learning (Castro et al., ECCV 2018), and its ablation (section 5.2, table 1).

`eeil_base` has the cross-distilled loss alone, `eeil_da` the augmentation too, `eeil_bf` balanced fine-tuning too.
"""

from dataclasses import replace

from accrete_learner.heads import HeadChoice
from accrete_learner.losses import BlockDistillation, CrossEntropy
from accrete_learner.methods.base import Method
from accrete_learner.rebalance import BalancedFineTuning, NoRebalance
from accrete_learner.training.schedule import Schedule

# Section 4.3: 40 epochs from 0.1, a tenth every 10; then 30 from 0.01, a tenth every 10. A weight decay of 1e-4. Twelve
# copies per epoch are the stored variants of section 4.2. In the code the first model trains longer and on plain
# images.
_NOISE = 0.3
_INCREMENT = Schedule(
    epochs=40,
    learning_rate=0.1,
    milestones=(10, 20, 30),
    weight_decay=1e-4,
    copies=12,
    gradient_noise=_NOISE,
)
_BASE = replace(_INCREMENT, epochs=100, milestones=(50, 75, 90), copies=1)
_BALANCED = Schedule(
    epochs=30, learning_rate=0.01, milestones=(10, 20), weight_decay=1e-4, copies=12, gradient_noise=_NOISE
)
_TERMS = (CrossEntropy(), BlockDistillation(temperature=2.0))

EEIL = Method(
    name="eeil",
    selection="herding",
    head=HeadChoice(kind="linear"),
    terms=_TERMS,
    base=_BASE,
    increment=_INCREMENT,
    augmentation="eeil",
    rebalance=BalancedFineTuning(schedule=_BALANCED, backbone=True, terms=_TERMS, protect_new=True),
)

METHODS = (
    EEIL,
    replace(EEIL, name="eeil_base", augmentation="none", rebalance=NoRebalance()),
    replace(EEIL, name="eeil_da", rebalance=NoRebalance()),
    replace(EEIL, name="eeil_bf", augmentation="none"),
)
