"""The check that a candidate must pass before it may serve, as pure arithmetic over hits."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from accrete_kit.intervals import wilson_interval
from accrete_learner.metrics import Tally
from accrete_learner_service.config import GateConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """The gate's judgement of a candidate."""

    accepted: bool
    reason: str
    """Why, as a sentence for people, with the numbers."""
    judged: bool = True
    """False: there were too few examples to judge by."""
    old_before: float | None = None
    """Accuracy on the old classes of the parent, 0 to 1; None where it was not judged."""
    old_after: float | None = None
    """The same of the candidate."""


def judge(
    candidate: Mapping[str, Tally],
    parent: Mapping[str, Tally],
    *,
    new_labels: Collection[str],
    config: GateConfig,
) -> Verdict:
    """Compare a candidate with its parent.

    Args:
        candidate: the candidate's hits per label.
        parent: the parent's hits per label that both know.
        new_labels: labels that the parent does not know.
        config: what is allowed.

    Returns:
        Rejected when the old classes lost more than `max_old_drop`, or the new ones are below `min_new`, and by more
        than so few examples may show by chance. Either group passes, and is not judged, while it has fewer than
        `min_holdout` examples.
    """
    if not config.enabled:
        return Verdict(accepted=True, reason="the gate is open")
    old = {label: tally for label, tally in candidate.items() if label not in new_labels}
    new = {label: tally for label, tally in candidate.items() if label in new_labels}
    verdicts = [_judge_old(old, parent, config)] if parent else []
    if config.min_new > 0 and new_labels:
        verdicts.append(_judge_new(new, config))
    failed = [verdict for verdict in verdicts if not verdict.accepted]
    told = failed or verdicts
    return Verdict(
        accepted=not failed,
        reason="; ".join(verdict.reason for verdict in told) or "there is nothing to compare with",
        judged=bool(failed) or all(verdict.judged for verdict in verdicts),
        old_before=verdicts[0].old_before if verdicts else None,
        old_after=verdicts[0].old_after if verdicts else None,
    )


def drop_is_sure(before: Tally, after: Tally) -> bool:
    """Return whether a share of hits is lower than another beyond chance, by the 95 % interval of their difference.

    Where both are of the same examples the interval is wider than it need be: what is sure is so all the more.

    Source: Newcombe, Interval estimation for the difference between independent proportions (Statistics in Medicine
    1998), method 10.
    """
    shares = before.hits / before.total, after.hits / after.total
    lowest, highest = wilson_interval(before.hits, before.total)[0], wilson_interval(after.hits, after.total)[1]
    return shares[0] - shares[1] > math.hypot(shares[0] - lowest, highest - shares[1])


def _judge_old(candidate: Mapping[str, Tally], parent: Mapping[str, Tally], config: GateConfig) -> Verdict:
    before = _together(parent.values())
    after = _together(tally for label, tally in candidate.items() if label in parent)
    fewest = min(before.total, after.total)
    if fewest < config.min_holdout:
        return _too_few("old", fewest, config)
    shares = before.hits / before.total, after.hits / after.total
    numbers = (
        f"accuracy on the old classes went from {shares[0]:.3f} on {before.total} examples to "
        f"{shares[1]:.3f} on {after.total}"
    )
    said = partial(Verdict, old_before=shares[0], old_after=shares[1])
    # The tolerance keeps 0.9 - 0.8 from being more than 0.1.
    if shares[0] - shares[1] <= config.max_old_drop + 1e-9:
        return said(accepted=True, reason=numbers)
    if not drop_is_sure(before, after):
        return said(accepted=True, reason=f"{numbers}, which may be chance")
    return said(accepted=False, reason=f"{numbers}; a drop of {config.max_old_drop:g} is allowed")


def _judge_new(candidate: Mapping[str, Tally], config: GateConfig) -> Verdict:
    found = _together(candidate.values())
    if found.total < config.min_holdout:
        return _too_few("new", found.total, config)
    numbers = f"accuracy on the new classes is {found.hits / found.total:.3f} on {found.total} examples"
    if wilson_interval(found.hits, found.total)[1] < config.min_new:
        return Verdict(accepted=False, reason=f"{numbers}; {config.min_new:g} is asked for")
    chance = ", which may be chance" if found.hits / found.total < config.min_new - 1e-9 else ""
    return Verdict(accepted=True, reason=f"{numbers}{chance}")


def _together(tallies: Iterable[Tally]) -> Tally:
    chosen = list(tallies)
    return Tally(hits=sum(tally.hits for tally in chosen), total=sum(tally.total for tally in chosen))


def _too_few(which: str, count: int, config: GateConfig) -> Verdict:
    images = "no example measures them" if not count else f"{count} examples measure them"
    reason = f"not judged on the {which} classes: {images}, {config.min_holdout} are needed"
    return Verdict(accepted=True, reason=reason, judged=False)
