"""Waiting until examples are learned: what is shown meanwhile, and when to end since it is in vain."""

from __future__ import annotations

import sys
import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from .._client import Client
from .._errors import AccreteError, NotLearned, PermissionDenied
from .._results import HeldLabel, Status, StepProgress
from .moving_line import MovingLine
from .output import duration

_LOOK_S = 1.0
"""Seconds between two looks at what the learner does."""
_SURE_LOOKS = 3
"""Looks in a row that find the same obstacle: what is set aside after failures is taken up again by more examples, a
moment after they have come."""
_AT_WORK = ("staging", "training", "gating", "committing")
_SHOWN = 5


@dataclass
class _Waiter:
    """The call that waits, on a thread of its own, which ends with the client."""

    client: Client
    ids: Sequence[str]
    timeout_s: float
    done: threading.Event = field(default_factory=threading.Event)
    version: int = 0
    error: AccreteError | None = None

    def run(self) -> None:
        try:
            self.version = self.client.wait_learned(self.ids, self.timeout_s)
        except AccreteError as error:
            self.error = error
        finally:
            self.done.set()


def wait_learned(client: Client, ids: Sequence[str], labels: Collection[str] | None, timeout_s: float) -> int:
    """Return the version once all these examples are in the live one, and show meanwhile how far that is.

    Args:
        client: to ask.
        ids: of the examples.
        labels: theirs, where they are known.
        timeout_s: longest wait.

    Raises:
        NotLearned: they are not in time, or cannot be before somebody does something, which the message says.
        AccreteError: any other of the call.
    """
    waiter = _Waiter(client, ids, timeout_s)
    threading.Thread(target=waiter.run, daemon=True).start()
    obstacle, looks = "", 0
    with MovingLine(sys.stderr) as line:
        while not waiter.done.wait(_LOOK_S):
            try:
                status = client.status()
                found = _obstacle(client, status, labels)
            except AccreteError:
                continue  # the call that waits decides how long an outage may last
            looks = looks + 1 if found.text == obstacle else 1
            obstacle = found.text
            if obstacle and (found.certain or looks >= _SURE_LOOKS):
                raise NotLearned(f"waiting is in vain: {obstacle}", waiting=ids, version=status.version, in_vain=True)
            line.show(_doing(status), (status.phase, status.progress and status.progress.stage))
    if waiter.error is not None:
        raise waiter.error
    return waiter.version


@dataclass(frozen=True)
class _Obstacle:
    """What keeps the examples from being learned; nothing for an empty text."""

    text: str = ""
    certain: bool = False
    """It lasts until somebody acts."""


def _obstacle(client: Client, status: Status, labels: Collection[str] | None) -> _Obstacle:
    if status.phase in _AT_WORK and status.learner_alive:
        return _Obstacle()
    if status.paused:
        return _Obstacle("learning is paused; `accrete resume` lets it go on", certain=True)
    if status.phase == "blocked":
        return _Obstacle(f"learning is blocked: {status.phase_reason}")
    if status.held_labels and (found := _set_aside(client, status, labels)).text:
        return found
    return _in_review(client, labels) if status.in_review else _Obstacle()


def _set_aside(client: Client, status: Status, labels: Collection[str] | None) -> _Obstacle:
    """Return why all that is pending of the labels stays so, where it does."""
    pending = {one.label for one in client.classes() if one.pending and (labels is None or one.label in labels)}
    if not pending or not pending <= set(status.held_labels):
        return _Obstacle()
    try:
        held = [one for one in client.held() if one.label in pending]
    except PermissionDenied:
        return _Obstacle(f"set aside: {_listed(sorted(pending))}; who operates the server sees why", certain=True)
    return _Obstacle(_listed([_told(one) for one in held]), certain=all(one.awaiting_approval for one in held))


def _told(held: HeldLabel) -> str:
    if held.awaiting_approval:
        return f"{held.label} awaits approval (`accrete approve`, or `accrete drop`)"
    return f"{held.label} is set aside: {held.reason} (`accrete retry`, or `accrete drop`)"


def _in_review(client: Client, labels: Collection[str] | None) -> _Obstacle:
    """Return what is set aside for review, where nothing of the labels is pending besides."""
    if any(one.pending and (labels is None or one.label in labels) for one in client.classes()):
        return _Obstacle()
    try:
        groups = [one for one in client.review() if labels is None or one.label in labels]
    except PermissionDenied:  # whose they are is not this caller's to know
        return _Obstacle()
    told = [f"{one.examples} of {one.label} are set aside for review: {one.reason}" for one in groups]
    return _Obstacle(f"{_listed(told)} (`accrete review release`, or `accrete review drop`)" if told else "")


def _listed(texts: Sequence[str]) -> str:
    more = f"; and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return "; ".join(texts[:_SHOWN]) + more


def _doing(status: Status) -> str:
    if not status.store_alive:
        return "the store does not answer"
    if not status.learner_alive:
        return "no learner is running"
    if status.progress is not None:
        return progress_line(status.progress)
    if status.waits_for:
        return f"waiting for {'; '.join(status.waits_for)}"
    return f"{status.phase}{f': {status.phase_reason}' if status.phase_reason else ''}"


def progress_line(progress: StepProgress) -> str:
    """Return how far a step is, such as "version 2: train 3 of 160, loss 0.512, 4 min 2 s left"."""
    version = f"version {progress.version}: " if progress.version else ""
    text = f"{version}{progress.stage} {progress.done} of {progress.total}"
    if progress.loss is not None:
        text += f", loss {progress.loss:.3f}"
    return text if progress.left_s is None else f"{text}, {duration(round(progress.left_s * 1000))} left"
