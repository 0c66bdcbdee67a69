"""The learner's loop: hold the lease, see what is pending, run the step that is due, and go on whatever happens."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from dataclasses import dataclass, replace

from accrete_kit.backoff import wait_after
from accrete_learner_service.errors import Blocked, Interrupted, NothingToLearn
from accrete_learner_service.loop.retention import retire
from accrete_learner_service.review.review import Reviewer
from accrete_learner_service.runtime.logs import fields
from accrete_learner_service.runtime.metrics import Metrics
from accrete_learner_service.step.staging import kept_labels, lost_labels
from accrete_learner_service.step.step_runner import BY_HAND_FILE, Bench, run_step
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

    def __init__(self, bench: Bench, metrics: Metrics, stopping: threading.Event) -> None:
        self._bench = bench
        self._metrics = metrics
        self._stopping = stopping
        self._reviewer = Reviewer(bench.store, bench.artifacts, bench.lease, bench.config, metrics)
        self._todo: Todo | None = None
        self._settling = Settling(bench.config.trigger)
        self._checked = 0.0
        self._away = False

    def run(self) -> None:
        """Works until `stopping` is set."""
        try:
            while not self._stopping.is_set():
                self._survive_turn()
                self._stopping.wait(self._bench.config.poll_s)
        finally:
            self._bench.trainer.kill()
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
            self._bench.lease.drop(str(error))
        except Interrupted as error:
            log.info("interrupted", extra=fields(reason=str(error)))

    def _turn(self) -> None:
        bench = self._bench
        if not bench.lease.held and not self._take_over():
            return
        bench.trainer.stand_by()
        if bench.store.control.paused():
            bench.report.phase("paused")
            return
        self._todo = self._todo or self._next()
        if self._todo is None or time.monotonic() < self._todo.not_before:
            blocked = "" if self._todo is None else self._todo.blocked
            bench.report.phase("blocked" if blocked else "waiting", blocked)
            return
        self._attempt(self._todo)

    def _take_over(self) -> bool:
        """Gets the lease if it is free, and clears away what an earlier learner left half done."""
        bench = self._bench
        bench.lease.drop("it ran out")
        self._hand_back()
        if not bench.lease.acquire():
            return False
        if any(bench.work.glob(f"*/{BY_HAND_FILE}")):
            bench.store.control.request_step()
        shutil.rmtree(bench.work, ignore_errors=True)
        bench.work.mkdir(parents=True, exist_ok=True)
        retire(bench.store, bench.artifacts, keep=bench.config.keep_versions, epoch=bench.lease.epoch)
        return True

    def _hand_back(self) -> None:
        """Leaves what was asked for by hand to whoever works next; all else follows from what is pending."""
        if self._todo is not None and self._todo.decision.cause == "hand":
            self._bench.store.control.request_step()
        self._todo = None

    def _next(self) -> Todo | None:
        """The step that is due, if any."""
        store = self._bench.store
        known = kept_labels(store.registry.latest_ready(), store.registry.forgotten())
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
        config = self._bench.config.trigger
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
            ended = run_step(self._bench, todo.decision, self._check)
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
            bench = self._bench
            retire(bench.store, bench.artifacts, keep=bench.config.keep_versions, epoch=bench.lease.epoch)

    def _discarded(self, reason: str) -> None:
        log.info("step.discarded", extra=fields(reason=reason))
        self._metrics.count_step("discarded")

    def _failed(self, todo: Todo, reason: str) -> None:
        """Tells of a failure; after the last one that is allowed, halves are tried, and a label that fails alone is set
        aside. All of a first step are, since a model of a part of them tells too little apart.
        """
        config, store = self._bench.config, self._bench.store
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
            store.hold(self._bench.lease.epoch, holds, event)
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
        if not self._bench.lease.held:
            raise Interrupted("the lease is lost")
        if time.monotonic() - self._checked < REVISION_CHECK_S:
            return
        self._checked = time.monotonic()
        if self._revision() not in (None, revision):
            raise InputsChanged("examples were deleted or a class was forgotten during the step")

    def _revision(self) -> int | None:
        try:
            return self._bench.store.registry.state().revision
        except StoreUnavailable:
            return None  # the lease's thread decides how long that may last, and the commit checks again
