"""The exemplar memory that one step leaves."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Generator, Tensor

from accrete_learner import evaluate
from accrete_learner.augmentation.augment import Augmentation
from accrete_learner.memory import exemplars
from accrete_learner.memory.exemplars import Candidates, Exemplars
from accrete_learner.progress import Report
from accrete_learner.ranks import ALONE, Group
from accrete_learner.synthesis.base import Picked
from accrete_learner.synthesis.recipes import Recipe
from accrete_learner.training.loop import TrainingSet
from accrete_learner.training.network import Network


@dataclass(kw_only=True)
class StepMemory:
    """Chooses or makes the exemplars that are kept after a step.

    Rebalancing changes the features by which examples are picked, so they are picked anew at each call (EEIL, section
    3.3). Making exemplars takes as long as training, so they are made once, for the network as it is at the first call.
    """

    recipe: Recipe | None
    """None for a method without a memory."""
    per_class: int
    """Exemplars that each class may keep."""
    class_count: int
    network: Network
    teacher: Network | None
    """The network as it was before the step. None in a first step."""
    candidates: Candidates
    augmentation: Augmentation
    generator: Generator
    report: Report
    """Called while exemplars are made."""
    group: Group = ALONE
    """The ranks that work on the step."""
    _made: dict[int, Exemplars] | None = field(default=None, init=False)

    def changed(self) -> dict[int, Exemplars]:
        """Return by class the exemplars of all classes that do not just keep their first `per_class`."""
        if self.recipe is None:
            return {}
        if self._made is not None:
            return self._made
        picks = self._picks(self.recipe.pick)
        chosen = {label: exemplars.taken(self.candidates, index) for label, index in picks.items()}
        if self.recipe.synthesis is None:
            return chosen
        self._made = chosen | self.recipe.synthesis(self._picked(picks))
        return self._made

    def whole(self, changed: Mapping[int, Exemplars]) -> list[Exemplars]:
        """Return the exemplars of every class in the order of the classes, where those of `changed` have changed."""
        kept = exemplars.complete(self.candidates, {}, per_class=self.per_class, class_count=self.class_count)
        return [
            changed[label] if label in changed else exemplars.taken(self.candidates, index)
            for label, index in enumerate(kept)
        ]

    def balanced(self) -> TrainingSet:
        """Return equally many exemplars of every class that has any."""
        x, y, source = exemplars.balanced(self.whole(self.changed()))
        return TrainingSet(x=x, y=y, fresh=source >= self.candidates.kept_count)

    def _picks(self, name: str) -> dict[int, Tensor]:
        features = evaluate.extract(self.network.backbone, self.candidates.x, group=self.group)

        def choose() -> dict[int, Tensor]:
            chosen = exemplars.choose(
                self.candidates, features, name=name, per_class=self.per_class, generator=self.generator
            )
            return {label: index.cpu() for label, index in chosen.items()}

        # Rounded otherwise, a feature could give another rank another choice.
        chosen = self.group.once(choose, self.generator)
        return {label: index.to(self.candidates.y.device) for label, index in chosen.items()}

    def _picked(self, picks: Mapping[int, Tensor]) -> Picked:
        memory = exemplars.complete(self.candidates, picks, per_class=self.per_class, class_count=self.class_count)
        return Picked(
            network=self.network,
            teacher=self.teacher,
            candidates=self.candidates,
            memory=tuple(memory),
            fresh_classes=tuple(picks),
            augmentation=self.augmentation,
            generator=self.generator,
            report=self.report,
            group=self.group,
        )
