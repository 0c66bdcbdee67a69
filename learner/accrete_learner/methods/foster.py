"""FOSTER, which learns new classes with a second backbone and compresses both into one.

A version has one backbone, and costs what every other method's costs to serve.

Source: Wang et al., FOSTER: Feature Boosting and Compression for Class-Incremental Learning (ECCV 2022). Epochs and
rates are those of the authors' settings for CIFAR-100; `AlignedCrossEntropy` says what they have as beta.
"""

from accrete_learner.boosting import Boosting
from accrete_learner.heads import HeadChoice
from accrete_learner.losses import AlignedCrossEntropy, AuxiliaryCrossEntropy, BalancedDistillation, Distillation
from accrete_learner.methods.base import Method
from accrete_learner.training.schedule import Cosine

FOSTER = Method(
    name="foster",
    selection="herding",
    head=HeadChoice(kind="linear"),
    terms=(AlignedCrossEntropy(beta=0.94), AuxiliaryCrossEntropy(), Distillation(temperature=2.0)),
    base=Cosine(epochs=200, learning_rate=0.1, weight_decay=5e-4, last_rate=0.0),
    increment=Cosine(epochs=170, learning_rate=0.1, weight_decay=5e-4, last_rate=0.0),
    augmentation="strong",
    boosting=Boosting(
        compression=Cosine(epochs=130, learning_rate=0.1, weight_decay=0.0, last_rate=0.0),
        terms=(BalancedDistillation(temperature=2.0, beta=0.97),),
    ),
)

METHODS = (FOSTER,)
