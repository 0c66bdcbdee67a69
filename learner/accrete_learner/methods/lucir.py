"""LUCIR, with a cosine head, the less-forget constraint and inter-class separation (Hou et al., CVPR 2019).

Rule `head` is the paper's CNN column, `nme` its NME column. The other methods are the rows of its ablation (section
4.3), each without one part, and its two baselines.
"""

from dataclasses import replace

from accrete_learner.heads import HeadChoice
from accrete_learner.losses import CrossEntropy, Distillation, LessForget, MarginRanking, ScoreMatching
from accrete_learner.methods.base import Method
from accrete_learner.rebalance import BalancedFineTuning, NoRebalance
from accrete_learner.training.schedule import Schedule

# Section 4.1, for CIFAR-100: every step alike.
_SCHEDULE = Schedule(epochs=160, learning_rate=0.1, milestones=(80, 120), weight_decay=5e-4)
_SEPARATION = MarginRanking(margin=0.5, hardest=2)

LUCIR = Method(
    name="lucir",
    selection="herding",
    head=HeadChoice(kind="cosine", imprint=True, freeze_old=True),
    terms=(CrossEntropy(), LessForget(base=5.0), _SEPARATION),
    base=_SCHEDULE,
    increment=_SCHEDULE,
    rebalance=BalancedFineTuning(),
)

_NO_BALANCE = replace(LUCIR, name="lucir_no_balance", rebalance=NoRebalance())

METHODS = (
    LUCIR,
    # iCaRL's data and memory with cross-entropy and distillation (T = 2, weight n_old) on a linear head.
    replace(
        _NO_BALANCE,
        name="lucir_linear",
        head=HeadChoice(kind="linear"),
        terms=(CrossEntropy(), Distillation(temperature=2.0, per_old_class=1.0)),
    ),
    # Cosine normalisation, with the old scores (before the scale) imitated in place of distilled.
    replace(
        _NO_BALANCE,
        name="lucir_cosine",
        head=HeadChoice(kind="cosine"),
        terms=(CrossEntropy(), ScoreMatching(on="cosines", weight=5.0)),
    ),
    replace(_NO_BALANCE, name="lucir_less_forget", terms=(CrossEntropy(), LessForget(base=5.0))),
    replace(LUCIR, name="lucir_fixed_weight", terms=(CrossEntropy(), LessForget(adaptive=False), _SEPARATION)),
    replace(LUCIR, name="lucir_no_separation", terms=(CrossEntropy(), LessForget(base=5.0))),
    # The paper's rows for CIFAR-100; it balances on ImageNet alone.
    _NO_BALANCE,
)
