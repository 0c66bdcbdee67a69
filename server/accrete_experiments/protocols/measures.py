"""The papers' metrics of a run, as shares of 1. Standard library alone.

An accuracy over several classes counts test images, not classes. Where nothing was measured the answer is None, never
0; a rule that was not measured after every phase has no average.
"""

import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import accumulate, pairwise

from accrete_experiments.protocols.results import Phase, Run
from accrete_learner import metrics

#: The papers' columns: `head` is their CNN column.
HEAD, NME = "head", "nme"


@dataclass(frozen=True, kw_only=True, slots=True)
class Spread:
    """A figure over the seeds."""

    mean: float
    deviation: float | None
    """Sample standard deviation (n - 1); None of a single seed."""
    seeds: int

    def to_dict(self) -> dict[str, float | int | None]:
        """For JSON."""
        return asdict(self)


def spread(values: Iterable[float | None]) -> Spread | None:
    """Mean and deviation of what was measured; None when nothing was."""
    measured = [value for value in values if value is not None]
    if not measured:
        return None
    deviation = statistics.stdev(measured) if len(measured) > 1 else None
    return Spread(mean=statistics.fmean(measured), deviation=deviation, seeds=len(measured))


def is_finished(run: Run) -> bool:
    """Whether the run came to the last class of its protocol."""
    return bool(run.phases) and run.phases[-1].classes == len(run.labels)


def rules(run: Run) -> tuple[str, ...]:
    """Rules measured after every phase, `head` and `nme` first."""
    if not run.phases:
        return ()
    common = set.intersection(*(set(phase.scores) for phase in run.phases))
    return tuple(sorted(common, key=lambda rule: (rule != HEAD, rule != NME, rule)))


def top1(phase: Phase, rule: str) -> float | None:
    """Accuracy on the test images of all classes seen."""
    return _share(phase, rule, 0, phase.classes, five=False)


def top5(phase: Phase, rule: str) -> float | None:
    """Share of the test images of all classes seen whose class is among the first five answers."""
    return _share(phase, rule, 0, phase.classes, five=True)


def curve(run: Run, rule: str) -> tuple[float | None, ...]:
    """Top-1 accuracy after each phase."""
    return tuple(top1(phase, rule) for phase in run.phases)


def average_incremental(run: Run, rule: str, *, first: bool = True, five: bool = False) -> float | None:
    """Mean over the phases of the accuracy on all classes seen.

    Args:
        run: any; one that is not finished answers for the phases it has.
        rule: the rule that predicts.
        first: whether the first (base) phase counts. It does in iCaRL (Rebuffi et al., CVPR 2017, section 4) and in
            most tables since; figures that leave it out are several points lower and do not compare.
        five: top-5 in place of top-1.
    """
    of_phases = [(top5 if five else top1)(phase, rule) for phase in run.phases[0 if first else 1 :]]
    return None if None in of_phases else metrics.average_incremental_accuracy(of_phases)


def last(run: Run, rule: str, *, five: bool = False) -> float | None:
    """Accuracy on all classes after the last phase."""
    return (top5 if five else top1)(run.phases[-1], rule) if run.phases else None


def by_age(phase: Phase, rule: str) -> tuple[float | None, ...]:
    """Accuracy of the classes that arrived in phase 1, 2, ... up to this one, each group by itself."""
    bounds = pairwise(accumulate(phase.class_counts, initial=0))
    return tuple(_share(phase, rule, first, end, five=False) for first, end in bounds)


def base_forgetting(run: Run, rule: str) -> float | None:
    """Accuracy of the first phase's classes after it, minus after the last phase; None of a single phase.

    Source: Liu et al., Mnemonics Training (CVPR 2020), "forgetting rate".
    """
    if len(run.phases) < 2:
        return None
    before, after = by_age(run.phases[0], rule)[0], by_age(run.phases[-1], rule)[0]
    return None if before is None or after is None else before - after


def forgetting(run: Run, rule: str) -> float | None:
    """Mean over the phases' classes, the last phase's left out, of the best earlier accuracy minus the last.

    Source: Chaudhry et al., Riemannian Walk (ECCV 2018), section 3.3, with a phase's classes as a task.
    """
    if len(run.phases) < 2:
        return None
    *earlier, now = (_measured(by_age(phase, rule)) for phase in run.phases)
    return metrics.forgetting(earlier, now)


def exemplars(run: Run) -> int | None:
    """Kept after the last phase; a method that keeps everything, or nothing, does not go by the budget."""
    return run.phases[-1].exemplars if run.phases else None


def images(run: Run) -> int:
    """Images that training took in all phases."""
    return sum(phase.images for phase in run.phases)


def images_a_second(run: Run) -> float | None:
    """Images that training took over the seconds of the stage `train`."""
    seconds = sum(phase.seconds.get("train", 0.0) for phase in run.phases)
    return images(run) / seconds if seconds and images(run) else None


def seconds(run: Run) -> float:
    """Wall time of all stages of all phases, measuring left out."""
    return sum(sum(phase.seconds.values()) for phase in run.phases)


def _measured(groups: Iterable[float | None]) -> dict[str, float]:
    return {str(number): value for number, value in enumerate(groups) if value is not None}


def _share(phase: Phase, rule: str, first: int, end: int, *, five: bool) -> float | None:
    """Hits over test images of the classes from `first` up to `end`, by order of arrival."""
    scores = phase.scores.get(rule)
    total = sum(phase.totals[first:end])
    if scores is None or not total:
        return None
    return sum((scores.hits5 if five else scores.hits)[first:end]) / total
