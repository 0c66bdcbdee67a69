"""The papers' metrics of a run, as shares of 1. Standard library alone.

An accuracy over several classes counts test images, not classes. Where nothing was measured the answer is None, never
0; a rule that was not measured after every task has no average.
"""

import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import accumulate, pairwise

from accrete_experiments.protocols.results import Run, Task
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
    """Return whether the run came to the last class of its protocol."""
    return bool(run.tasks) and run.tasks[-1].classes == len(run.labels)


def rules(run: Run) -> tuple[str, ...]:
    """Return the rules measured after every task, `head` and `nme` first."""
    if not run.tasks:
        return ()
    common = set.intersection(*(set(task.scores) for task in run.tasks))
    return tuple(sorted(common, key=lambda rule: (rule != HEAD, rule != NME, rule)))


def top1(task: Task, rule: str) -> float | None:
    """Accuracy on the test images of all classes seen."""
    return _share(task, rule, 0, task.classes, five=False)


def top5(task: Task, rule: str) -> float | None:
    """Return the share of the test images of all classes seen whose class is among the first five answers."""
    return _share(task, rule, 0, task.classes, five=True)


def curve(run: Run, rule: str) -> tuple[float | None, ...]:
    """Top-1 accuracy after each task."""
    return tuple(top1(task, rule) for task in run.tasks)


def average_incremental(run: Run, rule: str, *, first: bool = True, five: bool = False) -> float | None:
    """Mean over the tasks of the accuracy on all classes seen.

    Args:
        run: any; one that is not finished answers for the tasks it has.
        rule: the rule that predicts.
        first: whether the first (base) task counts. It does in iCaRL (Rebuffi et al., CVPR 2017, section 4) and in
            most tables since; figures that leave it out are several points lower and do not compare.
        five: top-5 in place of top-1.
    """
    of_tasks = [(top5 if five else top1)(task, rule) for task in run.tasks[0 if first else 1 :]]
    return None if None in of_tasks else metrics.average_incremental_accuracy(of_tasks)


def last(run: Run, rule: str, *, five: bool = False) -> float | None:
    """Accuracy on all classes after the last task."""
    return (top5 if five else top1)(run.tasks[-1], rule) if run.tasks else None


def by_age(task: Task, rule: str) -> tuple[float | None, ...]:
    """Accuracy of the classes that arrived in task 1, 2, ... up to this one, each group by itself."""
    bounds = pairwise(accumulate(task.class_counts, initial=0))
    return tuple(_share(task, rule, first, end, five=False) for first, end in bounds)


def base_forgetting(run: Run, rule: str) -> float | None:
    """Accuracy of the first task's classes after it, minus after the last task; None of a single task.

    Source: Liu et al., Mnemonics Training (CVPR 2020), "forgetting rate".
    """
    if len(run.tasks) < 2:
        return None
    before, after = by_age(run.tasks[0], rule)[0], by_age(run.tasks[-1], rule)[0]
    return None if before is None or after is None else before - after


def forgetting(run: Run, rule: str) -> float | None:
    """Mean over the tasks' classes, the last task's left out, of the best earlier accuracy minus the last.

    Source: Chaudhry et al., Riemannian Walk (ECCV 2018), section 3.3, which calls them tasks.
    """
    if len(run.tasks) < 2:
        return None
    *earlier, now = (_measured(by_age(task, rule)) for task in run.tasks)
    return metrics.forgetting(earlier, now)


def exemplars(run: Run) -> int | None:
    """Kept after the last task; a method that keeps everything, or nothing, does not go by the memory's size."""
    return run.tasks[-1].exemplars if run.tasks else None


def images(run: Run) -> int:
    """Return how many images training took in all tasks."""
    return sum(task.images for task in run.tasks)


def images_a_second(run: Run) -> float | None:
    """Return training images per second of the stage `train`."""
    seconds = sum(task.seconds.get("train", 0.0) for task in run.tasks)
    return images(run) / seconds if seconds and images(run) else None


def seconds(run: Run) -> float:
    """Wall time of all stages of all tasks, measuring left out."""
    return sum(sum(task.seconds.values()) for task in run.tasks)


def _measured(groups: Iterable[float | None]) -> dict[str, float]:
    return {str(number): value for number, value in enumerate(groups) if value is not None}


def _share(task: Task, rule: str, first: int, end: int, *, five: bool) -> float | None:
    """Return the share of hits among test images of the classes from `first` up to `end`, by order of arrival."""
    scores = task.scores.get(rule)
    total = sum(task.totals[first:end])
    if scores is None or not total:
        return None
    return sum((scores.hits5 if five else scores.hits)[first:end]) / total
