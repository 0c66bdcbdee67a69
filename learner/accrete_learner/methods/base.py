"""What a method is: a value that names a choice for each of the five stages of a step."""

from dataclasses import dataclass, replace
from typing import Literal

from accrete_learner.config import RuleChoice, SelectionChoice, TrainingConfig
from accrete_learner.heads import HeadChoice
from accrete_learner.losses import Term
from accrete_learner.rebalance import NoRebalance, Rebalance
from accrete_learner.schedule import Schedule


@dataclass(frozen=True, kw_only=True)
class Method:
    """A method as data; `step.run_step` puts it to work. Any choice goes with any other.

    Raises:
        ValueError: when the rebalancing needs exemplars and the method keeps none.
    """

    name: str
    selection: Literal["herding", "random"] | None
    """How the memory's exemplars are chosen; None: no memory, and none is trained on."""
    head: HeadChoice
    terms: tuple[Term, ...]
    """Their sum is the loss; a term that means nothing in a step is left out of it."""
    base: Schedule
    """Of a first step."""
    increment: Schedule
    """Of every later step."""
    rebalance: Rebalance = NoRebalance()
    rule: Literal["head", "nme"] = "head"
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
        )
        return replace(
            self,
            base=base,
            increment=increment,
            rebalance=rebalance,
            rule=rule or self.rule,
            selection=selection or self.selection,
        )


def _resized(schedule: Schedule, training: TrainingConfig, epochs: int | None) -> Schedule:
    return schedule.resized(
        epochs=epochs,
        learning_rate=training.learning_rate,
        weight_decay=training.weight_decay,
        batch_size=training.batch_size,
    )
