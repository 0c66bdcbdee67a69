"""How much work a protocol's tasks are, by which the time that is left is told."""

from collections.abc import Sequence
from pathlib import Path

from accrete_experiments.protocols.data import Dataset, indices
from accrete_experiments.protocols.run import EVERYTHING, Plan, trained_folder

#: An image whose features are computed, in images that are trained on.
_FORWARD = 1 / 3


def of_runs(plans: Sequence[Plan], data: Dataset, folder: Path) -> dict[str, list[float]]:
    """Return the work of each task of each run, by the run's name, in images that are trained on once.

    Rebalancing and making exemplars are left out.

    Args:
        plans: in the order in which they run. A first training that several share is the work of the first of them.
        data: the protocol's.
        folder: shared by the runs.
    """
    trained = set()
    found = {}
    for plan in plans:
        shared = trained_folder(plan, folder)
        trains_first = shared is not None and shared not in trained and not shared.exists()
        trained.add(shared)
        numbers = range(1, len(plan.tasks) + 1)
        found[plan.name] = [
            _of_task(plan, data, number, trains=plan.method.frozen == "never" if number > 1 else trains_first)
            for number in numbers
        ]
    return found


def _of_task(plan: Plan, data: Dataset, number: int, *, trains: bool) -> float:
    seen = [index for task in plan.tasks[:number] for index in task]
    images = len(indices(data.train_y, plan.tasks[number - 1], per_class=plan.protocol.per_class or None))
    work = _FORWARD * (images + len(indices(data.test_y, seen)))
    if not trains:
        return work
    return work + plan.method.passes(first=number == 1) * (images + _exemplars(plan, data, number))


def _exemplars(plan: Plan, data: Dataset, number: int) -> int:
    """Return how many exemplars there are when a task begins."""
    old = [index for task in plan.tasks[: number - 1] for index in task]
    if not old or plan.method.selection is None:
        return 0
    memory = EVERYTHING if plan.method.restart else plan.protocol.memory
    limit = min(memory.per_class(len(old)), plan.protocol.per_class or EVERYTHING.size)
    return len(indices(data.train_y, old, per_class=limit)) if limit else 0
