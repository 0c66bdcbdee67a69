"""What one principal may have of a class. Examples without a principal are nobody's, and nobody's share has no end."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from accrete_storage.examples.example import Example
from accrete_storage.examples.ids import holdout_rank


def places(share: float, total: int) -> int:
    """How many of `total` places may be one principal's: at least one."""
    return total if share >= 1 else max(1, int(share * total))


def within(examples: Iterable[Example], each: int) -> list[Example]:
    """The examples, in their order, without those that come after the first `each` of their principal."""
    taken: Counter[str] = Counter()
    left = []
    for example in examples:
        taken[example.principal] += 1
        if not example.principal or taken[example.principal] <= each:
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
    """The chosen exemplars, by label, without what is beyond a principal's places in each class.

    The places that become free go to other principals' examples of the class, drawn by their ids, as far as there are
    any. A class of `labels` that was not chosen anew is in the result if it changes: it may have fewer places now.

    Args:
        chosen: by label, of the classes chosen anew, in rank order.
        labels: of all classes.
        candidates: the exemplars from before, in rank order within each class, and the new examples.
        per_class: exemplars that a class may keep.
        share: part of them that may be one principal's; 1: all.
    """
    each = places(share, per_class)
    shared = {label: list(examples) for label, examples in chosen.items()}
    for label in labels if share < 1 else ():
        at_hand = [example for example in candidates if example.label == label]
        own = shared.get(label, at_hand)[:per_class]
        left = within(own, each)
        if len(left) == len(own):
            continue
        known = {example.id for example in own}
        spare = sorted((e for e in at_hand if e.id not in known), key=lambda example: holdout_rank(example.id))
        shared[label] = within([*left, *spare], each)[: len(own)]
    return shared


def beyond_share(exemplars: Iterable[Example], new: Sequence[Example], *, share: float, floor: int) -> list[Example]:
    """The new examples of a class that would make one principal's part of its training set larger than `share`.

    The first of each principal stay, at least `floor` of them. A class that has examples of one principal alone is that
    principal's, and none is beyond.
    """
    counts = Counter(example.principal for example in (*exemplars, *new))
    if len(counts) < 2:
        return []

    def is_too_much(each: int) -> bool:
        total = sum(count if not principal else min(count, each) for principal, count in counts.items())
        return each > share * total

    allowed = bisect_left(range(1, max(counts.values()) + 1), True, key=is_too_much)
    each = max(allowed, floor)
    taken = counts - Counter(example.principal for example in new)  # its exemplars stay
    beyond = []
    for example in new:
        taken[example.principal] += 1
        if example.principal and taken[example.principal] > each:
            beyond.append(example)
    return beyond
