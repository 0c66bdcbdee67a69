"""The check that a candidate must pass before it may serve, as pure arithmetic over hits on one hold-out."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from accrete_learner.metrics import Tally, accuracy
from accrete_learner_service.config import GateConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """The gate's judgement of a candidate."""

    accepted: bool
    reason: str
    """Why, as a sentence for people, with the numbers."""


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
        parent: the parent's hits per label that both know, on the same examples.
        new_labels: labels that the parent does not know.
        config: what is allowed.

    Returns:
        Rejected when the old classes lost more than `max_old_drop`, or the new ones are below `min_new`. Either group
        passes, and the reason says so, while it has fewer than `min_holdout` examples.
    """
    if not config.enabled:
        return Verdict(accepted=True, reason="the gate is open")
    old = {label: tally for label, tally in candidate.items() if label not in new_labels}
    new = {label: tally for label, tally in candidate.items() if label in new_labels}
    verdicts = [_judge_old(old, parent, config)] if parent else []
    if config.min_new > 0 and new_labels:
        verdicts.append(_judge_new(new, config))
    failed = [verdict for verdict in verdicts if not verdict.accepted]
    if failed:
        return Verdict(accepted=False, reason="; ".join(verdict.reason for verdict in failed))
    return Verdict(accepted=True, reason="; ".join(v.reason for v in verdicts) or "there is nothing to compare with")


def _judge_old(candidate: Mapping[str, Tally], parent: Mapping[str, Tally], config: GateConfig) -> Verdict:
    before, after = accuracy(parent), accuracy(candidate, parent.keys())
    count = sum(tally.total for tally in parent.values())
    if before is None or after is None or count < config.min_holdout:
        return Verdict(accepted=True, reason=_too_few("old", count, config))
    numbers = f"accuracy on the old classes went from {before:.3f} to {after:.3f} on {count} examples"
    # The tolerance keeps 0.9 - 0.8 from being more than 0.1.
    if before - after > config.max_old_drop + 1e-9:
        return Verdict(accepted=False, reason=f"{numbers}; a drop of {config.max_old_drop:g} is allowed")
    return Verdict(accepted=True, reason=numbers)


def _judge_new(candidate: Mapping[str, Tally], config: GateConfig) -> Verdict:
    reached = accuracy(candidate)
    count = sum(tally.total for tally in candidate.values())
    if reached is None or count < config.min_holdout:
        return Verdict(accepted=True, reason=_too_few("new", count, config))
    numbers = f"accuracy on the new classes is {reached:.3f} on {count} examples"
    if reached < config.min_new - 1e-9:
        return Verdict(accepted=False, reason=f"{numbers}; {config.min_new:g} is asked for")
    return Verdict(accepted=True, reason=numbers)


def _too_few(which: str, count: int, config: GateConfig) -> str:
    return f"not judged on the {which} classes: {count} hold-out examples, {config.min_holdout} needed"
