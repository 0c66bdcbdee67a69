"""What one of each thing costs, with where the figure comes from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

FILE = Path(__file__).with_name("costs.json")


@dataclass(frozen=True, kw_only=True)
class BySize:
    """A cost that depends on a size, the number of classes for the most part, measured at some of them."""

    at: tuple[tuple[int, float], ...]
    """Pairs of size and cost, ascending."""

    def __call__(self, size: float) -> float:
        """Return the cost, on straight lines between what was measured; beyond, the nearest line goes on.

        Above the greatest size it is no less than there, and below the least no less than a tenth of the least cost.
        """
        x, y = np.array(self.at).T
        if len(x) == 1:
            return float(y[0])
        right = int(np.clip(np.searchsorted(x, size), 1, len(x) - 1))
        slope = (y[right] - y[right - 1]) / (x[right] - x[right - 1])
        least = y[-1] if size > x[-1] else 0.1 * y.min()
        return float(max(y[right - 1] + slope * (size - x[right - 1]), least))


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Unit costs. Processor times are of one core of the machine that they were measured on."""

    pending_bytes: float
    """Of the store's memory for a photograph that is pending, with what is remembered of its id."""
    seen_bytes: float
    """Of the store's memory for the id of an example, remembered for `store.dedup_days`."""
    feature_bytes: float
    """Of the store's memory for the feature of a learned example, which stays."""
    log_bytes: float
    """That the store appends to its file for a photograph that is added."""
    add_call_us: float
    """Of the store's processor for a call that adds examples, whatever it has."""
    add_example_us: float
    """Of the store's processor for each of them, beside that."""
    sync_us: float
    """Wall time for which the store waits for its disk after a turn in which anything was written."""
    server_add_call_us: float
    """Of a server's processor for a call of AddExamples, whatever it has."""
    server_add_example_us: float
    """For each photograph in it, beside that."""
    predict_us: float
    """Of a server's processor for a call of Predict with one photograph."""
    base_us: float
    """Of the store's processor in each second in which nobody asks anything."""
    poll_us: float
    """Of the store's processor for a read of events that finds none and waits."""
    event_us: float
    """Of the store's processor for one event, for each server that hears of it."""
    event_bytes: float
    """Out of the store for the same."""
    member_us: BySize
    """Of the store's processor for a server that tells of itself as a member, by the number of members."""
    member_bytes: BySize
    """Out of the store for the same."""
    feature_us: float
    """Of the learner's processor for the feature of a photograph."""
    prototype_us: float
    """Of the learner's processor for the prototype of a class of 20 photographs, their features aside."""
    step_events: float
    """Events of a step, each for every server."""
    follow_us: BySize
    """Of the store's processor for a server that follows it, each second in which nothing happens."""
    follow_bytes: BySize
    """Out of the store for the same."""
    step_us: BySize
    """Of the learner's processor for a step of one example, its feature aside."""
    solve_us: BySize
    """The part of it that solves for the head and judges it by leaving each example out, by its share of the time."""
    learner_look_us: BySize
    """Of the learner's processor in each second without a step."""
    look_us: BySize
    """Of the store's processor for the same."""
    look_bytes: BySize
    """Out of the store for the same."""
    step_store_us: BySize
    """Of the store's processor for the same step, without any server."""
    step_store_bytes: BySize
    """Out of the store for the same step."""
    first_us: BySize
    """Of the learner's processor from its start to the first version, with ten examples a class."""
    swap_store_us: BySize
    """Of the store's processor for a step, for each server that follows."""
    swap_store_bytes: BySize
    """Out of the store for the same."""
    swap_server_us: BySize
    """Of a server's processor for a version that goes live."""
    version_bytes: BySize
    """Of a version's files, without the backbone that versions share: what each server gets from a bucket."""
    version_files: BySize
    """Number of those files, each a GET."""
    record_bytes: BySize
    """Of a version's record in the store."""


def of(values: Mapping[str, Any]) -> Costs:
    """Return costs from their values by name; a mapping from size to value for those that depend on one.

    Raises:
        ValueError: one is missing, is none of these, is of the other kind or is not a positive number.
    """
    kinds = {field.name: field.type == "BySize" for field in fields(Costs)}
    if odd := kinds.keys() ^ values.keys():
        raise ValueError(f"costs that are missing or unknown: {', '.join(sorted(odd))}")
    found: dict[str, Any] = {}
    for name, by_size in kinds.items():
        value = values[name]
        if by_size != isinstance(value, Mapping):
            raise ValueError(f"{name}: {'by size' if by_size else 'one number'} is expected, not {value!r}")
        pairs = sorted((int(size), float(cost)) for size, cost in value.items()) if by_size else [(0, value)]
        if not pairs or not all(cost > 0 and np.isfinite(cost) for _, cost in pairs):
            raise ValueError(f"{name}: a positive number is expected, not {value!r}")
        found[name] = BySize(at=tuple(pairs)) if by_size else float(value)
    return Costs(**found)


def load(file: Path = FILE) -> Costs:
    """Return the costs that a file has.

    Raises:
        ValueError: as `of` does.
    """
    return of({name: one["value"] for name, one in json.loads(file.read_text("utf-8"))["costs"].items()})
