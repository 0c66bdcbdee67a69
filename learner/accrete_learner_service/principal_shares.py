"""What one principal may have of a class's exemplars, hold-out and training set.

An example without a principal belongs to nobody, and no share limits it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from accrete_storage.examples.example import Example
from accrete_storage.examples.ids import holdout_rank


def places_of_one(share: float, places: int) -> int:
    """Return how many of a class's places one principal may have, which is at least one."""
    return places if share >= 1 else max(1, int(share * places))


def first_of_each(examples: Iterable[Example], limit: int) -> list[Example]:
    """Return the examples, in their order, without those after the first `limit` of their principal."""
    taken: Counter[str] = Counter()
    left = []
    for example in examples:
        taken[example.principal] += 1
        if not example.principal or taken[example.principal] <= limit:
            left.append(example)
    return left


def share_exemplars(
    chosen: Mapping[str, Sequence[Example]],
    labels: Iterable[str],
    candidates: Sequence[Example],
    *,
    per_class: int,
    share: float,
) -> dict[str, list[Example]]:
    """Return the chosen exemplars, by label, without those beyond a principal's places in each class.

    The places that become free go to other principals' examples of the class, drawn by their ids, as far as there are
    any. A class of `labels` that was not chosen anew is in the result if it changes, since it may have fewer places
    now.

    Args:
        chosen: by label, of the classes chosen anew, in rank order.
        labels: of all classes.
        candidates: the exemplars from before, in rank order within each class, and the new examples.
        per_class: exemplars that a class may keep.
        share: part of them that may be one principal's, above 0; 1 allows all.
    """
    limit = places_of_one(share, per_class)
    shared = {label: list(examples) for label, examples in chosen.items()}
    for label in labels if share < 1 else ():
        at_hand = [example for example in candidates if example.label == label]
        own = shared.get(label, at_hand)[:per_class]
        left = first_of_each(own, limit)
        if len(left) == len(own):
            continue
        ids = {example.id for example in own}
        spare = sorted((e for e in at_hand if e.id not in ids), key=lambda example: holdout_rank(example.id))
        shared[label] = first_of_each([*left, *spare], limit)[: len(own)]
    return shared


def beyond_share(exemplars: Iterable[Example], new: Sequence[Example], *, share: float, floor: int) -> list[Example]:
    """Return the new examples of a class that would make one principal's part of its training set exceed `share`.

    The first of each principal stay, at least `floor` of them. A class that has examples of one principal alone is that
    principal's, and none is beyond.

    Args:
        exemplars: of the class, which stay and are counted.
        new: pending examples of the class, in the order in which they are kept.
        share: part of the training set that may be one principal's, above 0 and below 1.
        floor: examples that each principal may have in any case.
    """
    counts = Counter(example.principal for example in (*exemplars, *new))
    if len(counts) < 2:
        return []

    def is_too_much(limit: int) -> bool:
        total = sum(count if not principal else min(count, limit) for principal, count in counts.items())
        return limit > share * total

    allowed = bisect_left(range(1, max(counts.values()) + 1), True, key=is_too_much)
    limit = max(allowed, floor)
    taken = counts - Counter(example.principal for example in new)  # its exemplars stay
    beyond = []
    for example in new:
        taken[example.principal] += 1
        if example.principal and taken[example.principal] > limit:
            beyond.append(example)
    return beyond
