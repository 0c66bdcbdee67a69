"""The choices of exemplars, each a selection that picks examples and what is made of the picks."""

from dataclasses import dataclass, replace

from accrete_learner.config import Pixels, Selection
from accrete_learner.synthesis.base import Synthesis
from accrete_learner.synthesis.collage import Collage
from accrete_learner.synthesis.inversion import Inversion
from accrete_learner.synthesis.mnemonics import Mnemonics


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a memory gets its exemplars."""

    pick: str = "herding"
    """The selection that picks examples, and ranks them."""
    synthesis: Synthesis | None = None
    """What is made of the picks. None: they are the exemplars."""


RECIPES: dict[Selection, Recipe] = {
    "random": Recipe(pick="random"),
    "herding": Recipe(),
    "histogram": Recipe(pick="histogram"),
    # The paper's mnemonics start from random examples, its code's from herding; see docs/methods.md.
    "mnemonics": Recipe(synthesis=Mnemonics()),
    "mnemonics_fixed": Recipe(synthesis=Mnemonics(adjust=False)),
    "collage_resized": Recipe(synthesis=Collage(kind="resized")),
    "collage_random_crop": Recipe(synthesis=Collage(kind="random_crop")),
    "collage_centre_crop": Recipe(synthesis=Collage(kind="centre_crop")),
    "inversion_noise": Recipe(synthesis=Inversion(start="noise")),
    "inversion_images": Recipe(synthesis=Inversion(start="images")),
    "inversion_herding": Recipe(synthesis=Inversion(start="herding")),
    "adaptive_noise": Recipe(synthesis=Inversion(start="noise", adaptive=True)),
    "adaptive_images": Recipe(synthesis=Inversion(start="images", adaptive=True)),
    "adaptive_herding": Recipe(synthesis=Inversion(start="herding", adaptive=True)),
}


def recipe(name: Selection, *, iterations: int | None = None, pixels: Pixels = "uint8") -> Recipe:
    """Return the recipe of the choice called `name`.

    Args:
        name: of the choice.
        iterations: of a synthesis by optimisation, in place of its own.
        pixels: how a synthesis that can keep fractions of grey levels stores pixels.
    """
    found = RECIPES[name]
    synthesis = found.synthesis
    if isinstance(synthesis, Mnemonics):
        synthesis = replace(synthesis, iterations=iterations or synthesis.iterations, storage=pixels)
    elif isinstance(synthesis, Inversion):
        synthesis = replace(synthesis, iterations=iterations or synthesis.iterations)
    return replace(found, synthesis=synthesis)
