"""The learner's loop: hold the lease, see what is pending, run the step that is due, and go on whatever happens."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from dataclasses import dataclass, replace

from accrete_kit.backoff import wait_after
from accrete_learner_service.errors import Blocked, Interrupted, NothingToLearn
from accrete_learner_service.labels import known_labels, lost_labels
from accrete_learner_service.loop.retention import retire
from accrete_learner_service.review.review import Reviewer
from accrete_learner_service.runtime.logs import fields
from accrete_learner_service.runtime.metrics import Metrics
from accrete_learner_service.step.context import LearnerContext
from accrete_learner_service.step.step_runner import BY_HAND_FILE, run_step
from accrete_learner_service.trigger import Decision, Settling, Waiting, decide
from accrete_storage.errors import Fenced, InputsChanged, StoreUnavailable

log = logging.getLogger(__name__)

#: Seconds between two looks, during a step, whether its inputs still stand.
REVISION_CHECK_S = 1.0
#: Seconds between two looks at files that are damaged: each reads them again.
BLOCKED_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Todo:
    """A step that is due, until it is done or set aside."""

    decision: Decision
    failures: int = 0
    """Failed attempts in a row."""
    not_before: float = 0.0
    """When the next attempt may start, by `time.monotonic`."""
    blocked: str = ""
    """What is damaged that it starts from; it is tried until that is back or given up."""
    rest: tuple[Decision, ...] = ()
    """Other parts of a step that failed as a whole, to be tried after this one."""

    def then(self) -> Todo | None:
        """What is due once this has come to its end."""
        return Todo(decision=self.rest[0], rest=self.rest[1:]) if self.rest else None

    def halves(self) -> Todo:
        """The first half of its labels, the other one to follow."""
        labels = sorted(self.decision.labels)
        first, second = labels[: len(labels) // 2], labels[len(labels) // 2 :]
        parts = (replace(self.decision, labels=frozenset(part)) for part in (first, second))
        return Todo(decision=next(parts), rest=(*parts, *self.rest))


class Learner:
    """One learner. `run` belongs to the process's main thread, whose end ends the trainer."""

    def __init__(self, context: LearnerContext, metrics: Metrics, stopping: threading.Event) -> None:
        self._context = context
        self._metrics = metrics
        self._stopping = stopping
        self._reviewer = Reviewer(context.store, context.artifacts, context.lease, context.config, metrics)
        self._todo: Todo | None = None
        self._settling = Settling(context.config.trigger)
        self._checked = 0.0
        self._away = False

    def run(self) -> None:
        """Works until `stopping` is set."""
        try:
            while not self._stopping.is_set():
                self._survive_turn()
                self._stopping.wait(self._context.config.poll_s)
        finally:
            self._context.trainer.kill()
        try:
            self._hand_back()
        except StoreUnavailable as error:
            log.warning("request.lost", extra=fields(reason=str(error)))

    def _survive_turn(self) -> None:
        try:
            self._turn()
            self._away = False
        except StoreUnavailable as error:
            if not self._away:
                log.warning("store.unavailable", extra=fields(reason=str(error)))
            self._away = True
        except Fenced as error:
            self._context.lease.drop(str(error))
        except Interrupted as error:
            log.info("interrupted", extra=fields(reason=str(error)))

    def _turn(self) -> None:
        context = self._context
        if not context.lease.held and not self._take_over():
            return
        context.trainer.stand_by()
        if context.store.control.paused():
            context.reporter.status("paused")
            return
        self._todo = self._todo or self._next()
        if self._todo is None or time.monotonic() < self._todo.not_before:
            blocked = "" if self._todo is None else self._todo.blocked
            context.reporter.status("blocked" if blocked else "waiting", blocked)
            return
        self._attempt(self._todo)

    def _take_over(self) -> bool:
        """Gets the lease if it is free, and clears away what an earlier learner left half done."""
        context = self._context
        context.lease.drop("it ran out")
        self._hand_back()
        if not context.lease.acquire():
            return False
        if any(context.work.glob(f"*/{BY_HAND_FILE}")):
            context.store.control.request_step()
        shutil.rmtree(context.work, ignore_errors=True)
        context.work.mkdir(parents=True, exist_ok=True)
        retire(context.store, context.artifacts, keep=context.config.keep_versions, epoch=context.lease.epoch)
        return True

    def _hand_back(self) -> None:
        """Leaves what was asked for by hand to whoever works next; all else follows from what is pending."""
        if self._todo is not None and self._todo.decision.cause == "hand":
            self._context.store.control.request_step()
        self._todo = None

    def _next(self) -> Todo | None:
        """The step that is due, if any."""
        store = self._context.store
        known = known_labels(store.registry.latest_ready(), store.registry.forgotten())
        # Read before the holds: a label that awaits approval is held from its first example on.
        counts = store.pending.counts()
        holds = store.holds()
        pending = {
            label: Waiting(examples=count.examples, holdout=count.holdout, oldest_ms=count.oldest_ms)
            for label, count in counts.items()
            if label not in holds or not holds[label].awaiting
        }
        held = {label: hold.count for label, hold in holds.items()}
        # Taken last, for what is taken must not be lost to a store that goes away in between.
        by_hand = store.control.take_step_request()
        now_ms = int(time.time() * 1000)
        config = self._context.config.trigger
        decision = decide(pending, known=known, held=held, config=config, now_ms=now_ms, by_hand=by_hand)
        if by_hand and decision is None and lost_labels(store, known):
            decision = Decision(labels=frozenset(), reason="a version was given up", cause="hand")
        if by_hand and decision is None:
            log.info("step.nothing_to_learn", extra=fields(labels=len(pending)))
        arrived = sum(waiting.examples for waiting in pending.values())
        due = self._settling.over(decision, arrived, time.monotonic())
        return Todo(decision=decision) if decision is not None and due else None

    def _attempt(self, todo: Todo) -> None:
        """One attempt at a step. What is due stays due unless the step ends for good."""
        self._todo = todo = replace(todo, blocked="")
        try:
            if self._reviewer.review(todo.decision.labels) and todo.decision.cause != "hand":
                self._todo = None  # what is left may not be enough for a step
                return
            ended = run_step(self._context, todo.decision, self._check)
        except NothingToLearn as error:
            log.info("step.nothing_to_learn", extra=fields(reason=str(error)))
            self._todo = todo.then()
        except Blocked as error:
            self._todo = replace(todo, not_before=time.monotonic() + BLOCKED_S, blocked=str(error))
        except InputsChanged as error:
            self._discarded(str(error))
        except (Fenced, Interrupted, StoreUnavailable) as error:
            self._discarded(str(error))
            raise
        except Exception as error:
            # Whatever it was, the loop must go on: pending examples of other classes wait for it.
            log.exception("step.failed", extra=fields(attempt=todo.failures + 1))
            self._failed(todo, str(error) or type(error).__name__)
        else:
            self._todo = todo.then()
            self._metrics.count_step(ended.outcome, ended.seconds)
            context = self._context
            retire(context.store, context.artifacts, keep=context.config.keep_versions, epoch=context.lease.epoch)

    def _discarded(self, reason: str) -> None:
        log.info("step.discarded", extra=fields(reason=reason))
        self._metrics.count_step("discarded")

    def _failed(self, todo: Todo, reason: str) -> None:
        """Tells of a failure; after the last one that is allowed, halves are tried, and a label that fails alone is set
        aside. All of a first step are, since a model of a part of them tells too little apart.
        """
        config, store = self._context.config, self._context.store
        failures = todo.failures + 1
        self._metrics.count_step("failed")
        event = {"reason": reason, "attempt": failures}
        if failures < config.max_failures:
            wait_s = wait_after(failures, first_s=config.retry_s)
            self._todo = replace(todo, failures=failures, not_before=time.monotonic() + wait_s)
        elif len(todo.decision.labels) > 1 and store.registry.latest_ready() is not None:
            self._todo = todo.halves()
            log.warning("step.halved", extra=fields(labels=sorted(todo.decision.labels), reason=reason))
        else:
            counts = store.pending.counts()
            holds = {label: counts[label].examples for label in todo.decision.labels if label in counts}
            store.hold(self._context.lease.epoch, holds, event)
            self._todo = todo.then()
            log.error("step.held", extra=fields(labels=sorted(holds), reason=reason))
            return  # the hold tells of the failure, too
        store.events.append("failed", event)

    def _check(self, revision: int) -> None:
        """Ends a step that cannot count any more.

        Raises:
            Interrupted: the process is to stop, or the lease is lost.
            InputsChanged: something was deleted or forgotten since the inputs were read.
        """
        if self._stopping.is_set():
            raise Interrupted("shutting down")
        if not self._context.lease.held:
            raise Interrupted("the lease is lost")
        if time.monotonic() - self._checked < REVISION_CHECK_S:
            return
        self._checked = time.monotonic()
        if self._revision() not in (None, revision):
            raise InputsChanged("examples were deleted or a class was forgotten during the step")

    def _revision(self) -> int | None:
        try:
            return self._context.store.registry.state().revision
        except StoreUnavailable:
            return None  # the lease's thread decides how long that may last, and the commit checks again
