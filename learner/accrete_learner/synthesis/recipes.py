"""What each choice of a memory is made of: a selection that picks examples, and what is made of the picks."""

from dataclasses import dataclass

from accrete_learner.config import Selection
from accrete_learner.synthesis.base import Synthesis


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a memory comes to its exemplars."""

    pick: str = "herding"
    """The selection that picks examples, and ranks them."""
    synthesis: Synthesis | None = None
    """What is made of the picks; None: they are the exemplars."""


def recipe(name: Selection) -> Recipe:
    """What the memory called `name` is made of."""
    kind, _, form = name.partition("_")
    if kind == "mnemonics":
        from accrete_learner.synthesis.mnemonics import Mnemonics

        return Recipe(synthesis=Mnemonics(adjust=form != "fixed"))
    if kind == "collage":
        from accrete_learner.synthesis.collage import Collage

        return Recipe(synthesis=Collage(kind=form))
    if kind in ("inversion", "adaptive"):
        from accrete_learner.synthesis.inversion import Inversion

        return Recipe(synthesis=Inversion(start=form, adaptive=kind == "adaptive"))
    return Recipe(pick=name)
