"""The description of a method, which names a choice for each of the five stages of a step."""

from dataclasses import dataclass, replace
from typing import Literal

from accrete_learner.boosting import Boosting
from accrete_learner.config import Augmentation, MethodConfig, Pixels, Rule, Selection, TrainingConfig
from accrete_learner.heads import HeadChoice
from accrete_learner.heads.closed_form import ClosedForm
from accrete_learner.losses import Term
from accrete_learner.rebalance import NoRebalance, Rebalance
from accrete_learner.training.schedule import Knee, Schedule
from accrete_model.card import FeatureChoice


@dataclass(frozen=True, kw_only=True)
class Method:
    """A method as data, which `method_step.run_method_step` runs. Any choice goes with any other.

    Raises:
        ValueError: when the rebalancing needs exemplars and the method keeps none.
    """

    name: str
    selection: Selection | None
    """How the memory's exemplars are chosen or made. None for a method that keeps none and trains on none."""
    head: HeadChoice
    terms: tuple[Term, ...]
    """Their sum is the loss. A term that does not apply to a step is left out of it."""
    base: Schedule
    """Of a first step."""
    increment: Schedule
    """Of every later step."""
    augmentation: Augmentation = "auto"
    """What a configuration's `auto` stands for."""
    frozen: Literal["never", "increments"] = "never"
    """`increments`: the backbone is trained in the first step alone, and not at all when it brings weights."""
    boosting: Boosting | None = None
    """Whether later steps train a second backbone beside the one there is and compress both into one. `terms` and
    `increment` are then of the first of these trainings, and `rebalance` comes after the second."""
    weight_transfer: bool = False
    """Whether later steps train a scale and a shift per filter in place of the filters (mnemonics, section 4.4)."""
    restart: bool = False
    """Whether every step trains from the beginning, on all that the memory holds and all that is new."""
    closed_form: ClosedForm | None = None
    """Solves for the head on a frozen backbone, in place of training it."""
    features: FeatureChoice = "last"
    """Which features the closed form sees, and those who look for near examples; see `Backbone.choose_features`. The
    first training, whose head is replaced, sees the last."""
    rebalance: Rebalance = NoRebalance()
    rule: Rule = "head"
    """How the finished version predicts."""
    last_relu: bool = False
    """Whether the backbone ends in a ReLU. Off as in iCaRL's and LUCIR's code, and for the others too, so that a
    model can go on with another method."""
    synthesis_iterations: int | None = None
    """Iterations of a selection that makes exemplars by optimisation. None: its own."""
    exemplar_pixels: Pixels = "uint8"
    """How a selection that can keep fractions of grey levels stores pixels."""

    def __post_init__(self) -> None:
        if self.rebalance.needs_exemplars and self.selection is None:
            raise ValueError(f"method {self.name}: {type(self.rebalance).__name__} needs a memory of exemplars")

    def configured(self, config: MethodConfig, training: TrainingConfig) -> "Method":
        """Return this method with the given choices and numbers in place of its own.

        The epochs and learning rates of compression and rebalancing change by the same factors as those of `increment`.
        The rebalancing's schedule stays its own.
        """
        increment = _resized(self.increment, training, training.epochs)
        epochs = increment.epochs / self.increment.epochs
        learning_rate = increment.learning_rate / self.increment.learning_rate
        batch_size, copies, boosting = increment.batch_size, training.copies, self.boosting
        rebalance = self.rebalance.resized(
            epochs=epochs, learning_rate=learning_rate, batch_size=batch_size, copies=copies
        )
        if boosting is not None:
            boosting = boosting.resized(
                epochs=epochs, learning_rate=learning_rate, batch_size=batch_size, copies=copies
            )
            boosting = replace(boosting, compression=_shaped(boosting.compression, training))
        return replace(
            self,
            base=_shaped(_resized(self.base, training, training.base_epochs), training),
            increment=_shaped(increment, training),
            augmentation=self.augmentation if training.augmentation == "auto" else training.augmentation,
            boosting=boosting,
            rebalance=rebalance,
            rule=config.rule or self.rule,
            selection=config.selection or self.selection,
            weight_transfer=config.weight_transfer or self.weight_transfer,
            synthesis_iterations=config.synthesis_iterations,
            exemplar_pixels=config.exemplar_pixels,
            closed_form=None if self.closed_form is None else self.closed_form.resized(config.random_features),
        )

    def passes(self, *, first: bool) -> int:
        """Return how often the training of a first step, or of a later one, takes each example."""
        if first:
            return self.base.epochs * self.base.copies
        compression = 0 if self.boosting is None else self.boosting.compression.epochs
        return (self.increment.epochs + compression) * self.increment.copies

    def base_terms(self) -> tuple[Term, ...]:
        """Return the terms that apply to a first step."""
        return tuple(term for term in self.terms if term.applies(0, 1))


def _shaped(schedule: Schedule, training: TrainingConfig) -> Schedule:
    return schedule if training.schedule == "own" else Knee.of(schedule)


def _resized(schedule: Schedule, training: TrainingConfig, epochs: int | None) -> Schedule:
    return schedule.resized(
        epochs=epochs,
        learning_rate=training.learning_rate,
        weight_decay=training.weight_decay,
        batch_size=training.batch_size,
        copies=training.copies,
    )
