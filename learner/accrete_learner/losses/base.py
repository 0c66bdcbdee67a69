"""The interface of loss terms, and the batch that they are computed from.

Shapes: N examples, d feature length, O classes known before the step, C classes in all; old classes are 0 .. O - 1.
"""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """One batch with the outputs of the network and of its teacher, all float32."""

    features: Tensor
    """[N, d], with gradient; of a network with two branches, those of the new one."""
    scores: Tensor
    """[N, C], with gradient."""
    rows: Tensor
    """[C, d], the head's rows for these features, with gradient."""
    labels: Tensor
    """[N] int64."""
    fresh: Tensor
    """[N] bool, true for an example that came for this step, false for an exemplar kept from before it."""
    class_counts: Tensor
    """[C] int64, examples of each class in the whole training set."""
    old_count: int
    """O."""
    auxiliary_scores: Tensor | None = None
    """[N, C], with gradient, of a head that sees the features of the new one of two branches alone. None in a training
    of one branch."""
    teacher_features: Tensor | None = None
    """[N, d] of the network as it was before the step. None in a first step."""
    teacher_scores: Tensor | None = None
    """[N, T], of the first T classes: the O known before the step, or more where a temporary teacher knows more. None
    in a first step."""
    teacher_rows: Tensor | None = None
    """[O, d], the rows of the head as it was before the step. None in a first step."""
    blocks: tuple[int, ...] = ()
    """Sizes of the groups in which the T classes came, oldest first. Their sum is T."""

    @property
    def class_count(self) -> int:
        """C."""
        return self.scores.shape[1]

    def taught(self) -> tuple[Tensor, Tensor]:
        """Return the scores [N, T] of the classes that the teacher knows, and the teacher's scores of them.

        Raises:
            ValueError: in a first step, which has no teacher.
        """
        if self.teacher_scores is None:
            raise ValueError("distillation needs the scores of the network as it was before the step")
        return self.scores[:, : self.teacher_scores.shape[1]], self.teacher_scores


class Term(Protocol):
    """One summand of a loss, as a value that turns a batch into a scalar with its weight included."""

    def applies(self, old_count: int, new_count: int) -> bool:
        """Return whether the term is part of the loss in a step with these numbers of classes. Called once per step."""

    def __call__(self, batch: Batch) -> Tensor:
        """Return the weighted term, a scalar.

        It must not wait for the device, so neither `.item()` nor shapes that depend on the data are allowed.
        """
