"""What a method is: a value that names a choice for each of the five stages of a step."""

from dataclasses import dataclass, replace
from typing import Literal

from accrete_learner.config import Augmentation, Rule, RuleChoice, Selection, SelectionChoice, TrainingConfig
from accrete_learner.heads import HeadChoice
from accrete_learner.heads.ridge import Ridge
from accrete_learner.losses import Term
from accrete_learner.rebalance import NoRebalance, Rebalance
from accrete_learner.training.schedule import Schedule


@dataclass(frozen=True, kw_only=True)
class Method:
    """A method as data; `step.run_step` puts it to work. Any choice goes with any other.

    Raises:
        ValueError: when the rebalancing needs exemplars and the method keeps none.
    """

    name: str
    selection: Selection | None
    """How the memory's exemplars are chosen or made; None: no memory, and none is trained on."""
    head: HeadChoice
    terms: tuple[Term, ...]
    """Their sum is the loss; a term that means nothing in a step is left out of it."""
    base: Schedule
    """Of a first step."""
    increment: Schedule
    """Of every later step."""
    augmentation: Augmentation = "auto"
    """What a configuration's `auto` means to this method."""
    frozen: Literal["never", "increments"] = "never"
    """`increments`: after its first step the backbone stays as it is; one that brings weights is not trained at all."""
    weight_transfer: bool = False
    """Later steps train a scale and a shift a filter in place of the filters (mnemonics, section 4.4 and MTL)."""
    restart: bool = False
    """Every step trains anew, from the first step's weights, on all that the memory holds and all that is new."""
    closed_form: Ridge | None = None
    """Solves for the head in place of training it, on top of a frozen backbone."""
    rebalance: Rebalance = NoRebalance()
    rule: Rule = "head"
    """How the finished version predicts."""
    last_relu: bool = False
    """Whether the backbone ends in a ReLU. Off as in iCaRL's and LUCIR's code, and for the others too, so that a
    model can go on with another method."""

    def __post_init__(self) -> None:
        if self.rebalance.needs_exemplars and self.selection is None:
            raise ValueError(f"method {self.name}: {type(self.rebalance).__name__} needs a memory of exemplars")

    def configured(
        self, training: TrainingConfig, *, rule: RuleChoice = "", selection: SelectionChoice = ""
    ) -> "Method":
        """This method with the given numbers and choices in place of its own.

        The rebalancing's epochs and rate change by the same factors as those of `increment`.
        """
        base = _resized(self.base, training, training.base_epochs)
        increment = _resized(self.increment, training, training.epochs)
        rebalance = self.rebalance.resized(
            epochs=increment.epochs / self.increment.epochs,
            learning_rate=increment.learning_rate / self.increment.learning_rate,
            batch_size=increment.batch_size,
            copies=training.copies,
        )
        return replace(
            self,
            base=base,
            increment=increment,
            augmentation=self.augmentation if training.augmentation == "auto" else training.augmentation,
            rebalance=rebalance,
            rule=rule or self.rule,
            selection=selection or self.selection,
        )

    def base_terms(self) -> tuple[Term, ...]:
        """The terms that mean something in a first step."""
        return tuple(term for term in self.terms if term.applies(0, 1))


def _resized(schedule: Schedule, training: TrainingConfig, epochs: int | None) -> Schedule:
    return schedule.resized(
        epochs=epochs,
        learning_rate=training.learning_rate,
        weight_decay=training.weight_decay,
        batch_size=training.batch_size,
        copies=training.copies,
    )
