"""The learner's loop, which holds the lease, runs the step that is due, and goes on whatever happens."""

from __future__ import annotations

import contextlib
import logging
import shutil
import threading
import time
from collections.abc import Sequence
from dataclasses import replace

from accrete_kit.backoff import wait_after
from accrete_learner_service.analytic.learning import AnalyticLearner
from accrete_learner_service.deep.deep_learner import DeepLearner
from accrete_learner_service.deep.deep_learner import left_by_hand as deep_left_by_hand
from accrete_learner_service.errors import Blocked, Interrupted, NothingToLearn
from accrete_learner_service.labels import known_labels, lost_labels
from accrete_learner_service.loop.due_step import DueStep
from accrete_learner_service.loop.retention import clear_backbones, retire
from accrete_learner_service.review.review import Reviewer
from accrete_learner_service.runtime.logs import fields
from accrete_learner_service.runtime.metrics import Metrics
from accrete_learner_service.step.attempt import left_by_hand
from accrete_learner_service.step.context import LearnerContext
from accrete_learner_service.step.step_runner import learn_pending
from accrete_learner_service.step.still_counts import StillCounts
from accrete_learner_service.trigger import Decision, Settling, decide
from accrete_model.errors import BucketUnavailable
from accrete_storage.errors import Fenced, InputsChanged, StoreUnavailable
from accrete_storage.versions.record import VersionRecord

log = logging.getLogger(__name__)

#: Times that a step begins anew for deletions before it goes on and leaves out what was deleted.
MAX_RESTARTS = 3
#: Seconds between two looks at files that are damaged: each reads them again.
BLOCKED_S = 5.0
#: Seconds between the beginnings of two steps of a closed form: while a stream flows, versions are not more frequent.
ANALYTIC_EVERY_S = 1.0
#: Records of its versions that are kept at most and at least, and labels in them all, since each step reads them.
MOST_RECORDS, FEWEST_RECORDS, LABELS_IN_RECORDS = 100, 10, 10_000


class Learner:
    """One learner. `run` belongs to the process's main thread, whose end ends the trainer."""

    def __init__(
        self,
        context: LearnerContext,
        metrics: Metrics,
        stopping: threading.Event,
        analytic: AnalyticLearner | None = None,
        deep: DeepLearner | None = None,
    ) -> None:
        """Make it without starting it.

        Args:
            context: what to work with.
            metrics: count the steps.
            stopping: it works until this is set.
            analytic: learns in this process, in place of the trainer's.
            deep: trains the backbone that it learns on, beside the loop.
        """
        self._context = context
        self._analytic = analytic
        self._deep = deep
        self._metrics = metrics
        self._stopping = stopping
        self._reviewer = Reviewer(context.store, context.artifacts, context.lease, context.config, metrics)
        self._due: DueStep | None = None
        self._begun = False
        """Whether this learner is ready to make steps under the lease that it has."""
        self._settling = Settling(context.config.trigger)
        self._still_counts = StillCounts(context, stopping)
        self._store_away = False
        self._began_s = 0.0
        self._started_s = time.monotonic()
        self._unjudged = ""
        """What is to be known of the newest version while nothing else is going on."""
        self._resolved = -1
        """The revision that a closed form has taken notice of, even where it left nothing to learn."""

    def run(self) -> None:
        """Work until `stopping` is set."""
        try:
            while not self._stopping.is_set():
                self._survive_turn()
                self._stopping.wait(self._context.config.poll_s)
        finally:
            self._give_up_deep()
            self._context.trainer.kill()
        try:
            self._hand_back()
        except StoreUnavailable as error:
            log.warning("request.lost", extra=fields(reason=str(error)))

    def _survive_turn(self) -> None:
        try:
            self._turn()
            self._store_away = False
        except StoreUnavailable as error:
            if not self._store_away:
                log.warning("store.unavailable", extra=fields(reason=str(error)))
            self._store_away = True
        except Fenced as error:
            self._context.lease.drop(str(error))
        except Interrupted as error:
            log.info("turn.interrupted", extra=fields(reason=str(error)))

    def _turn(self) -> None:
        context = self._context
        if not context.lease.held and not self._take_over():
            return
        if not self._begun and not self._begin():
            return
        if self._analytic is None:
            context.trainer.stand_by()
        if context.store.control.paused():
            context.reporter.status("paused")
            if self._deep is not None and self._deep.is_running:  # what runs is finished
                self._turn_deep(self._deep)
            return
        self._due = self._due or self._next()
        if self._due is not None and time.monotonic() >= self._due.not_before_s:
            self._attempt(self._due)
        elif self._due is not None and self._due.blocked:
            context.reporter.status("blocked", self._due.blocked)
        else:
            context.reporter.status("waiting", self._unjudged)
        if self._deep is not None:
            self._turn_deep(self._deep)

    def _turn_deep(self, deep: DeepLearner) -> None:
        rested_s = 0.0 if self._due is not None else time.monotonic() - max(self._began_s, self._started_s)
        try:
            finished = deep.turn(rested_s)
        except (Fenced, Interrupted, StoreUnavailable):
            raise
        except Exception:  # whatever it was, the loop must go on
            log.exception("deep.failed")
            return
        if finished is not None:
            self._metrics.count_step(finished.outcome, finished.seconds)
            self._retire(finished.versions)

    def _give_up_deep(self) -> None:
        if self._deep is not None:
            try:
                self._deep.give_up()
            except StoreUnavailable as error:
                log.warning("request.lost", extra=fields(reason=str(error)))

    def _take_over(self) -> bool:
        """Get the lease if it is free, and clear away what an earlier learner left half done."""
        context = self._context
        context.lease.drop("it ran out")
        self._give_up_deep()
        self._hand_back()
        if not context.lease.acquire():
            return False
        if left_by_hand(context.work):
            context.store.control.request_step()
        if deep_left_by_hand(context.work):
            context.store.deep.request()
        shutil.rmtree(context.work, ignore_errors=True)
        context.work.mkdir(parents=True, exist_ok=True)
        self._begun = False
        return True

    def _begin(self) -> bool:
        """Get ready for steps. False, and a status that says why, while the bucket that has the versions is away."""
        context = self._context
        try:
            ready = {one.version: one.digest for one in context.store.registry.versions() if one.state == "ready"}
            context.artifacts.take_over(context.store.identity(), ready)
            if self._analytic is not None:
                self._analytic.begin(context)
                self._resolved = -1
        except BucketUnavailable as error:
            context.reporter.status("blocked", str(error))
            return False
        self._retire(context.store.registry.versions())
        self._begun = True
        return True

    def _hand_back(self) -> None:
        """Leave what was asked for by hand to whoever works next, since all else follows from what is pending."""
        if self._due is not None and self._due.decision.cause == "hand":
            self._context.store.control.request_step()
        self._due = None

    def _next(self) -> DueStep | None:
        """Return the step that is due, if any."""
        store, config, analytic = self._context.store, self._context.config.trigger, self._analytic
        if analytic is not None and time.monotonic() - self._began_s < ANALYTIC_EVERY_S:
            return None
        parent = store.registry.latest_ready()
        known = known_labels(parent, store.registry.forgotten())
        # Read before the quarantine, which a label that awaits approval is in from its first example on.
        counts = store.pending.counts()
        quarantine = store.quarantine.entries()
        unapproved = {label for label, entry in quarantine.items() if entry.awaiting}
        pending = {label: count for label, count in counts.items() if label not in unapproved}
        if analytic is not None:  # it learns what was set aside as well, for every image measures it
            pending = {label: replace(count, holdout=0) for label, count in pending.items()}
        # Taken last, for what is taken must not be lost to a store that goes away in between.
        by_hand = store.control.take_step_request()
        decision = decide(
            pending,
            known=known,
            quarantined={label: entry.count for label, entry in quarantine.items()},
            config=config,
            now_ms=int(time.time() * 1000),
            by_hand=by_hand,
        )
        if decision is None and analytic is not None and (reason := self._outdated(analytic, parent)):
            return DueStep(decision=Decision(labels=frozenset(), reason=reason, cause="outdated"))
        if by_hand and decision is None and lost_labels(store, known):
            decision = Decision(labels=frozenset(), reason="a version was given up", cause="hand")
        if by_hand and decision is None:
            log.info("step.nothing_to_learn", extra=fields(labels=len(pending)))
        arrived = sum(count.examples for count in pending.values())
        settled = self._settling.over(decision, arrived, time.monotonic())
        return DueStep(decision=decision) if decision is not None and settled else None

    def _outdated(self, analytic: AnalyticLearner, parent: VersionRecord | None) -> str:
        """Return why a closed form is to be solved again without new examples. Once for each revision."""
        revision = self._context.store.registry.state().revision
        if revision == self._resolved or not (reason := analytic.outdated(self._context.store, parent)):
            return ""
        self._resolved = revision
        return reason

    def _attempt(self, due: DueStep) -> None:
        """Make one attempt at a step. What is due stays due unless the step ends for good."""
        self._due = due = replace(due, blocked="")
        if not due.decision.labels.issubset(self._context.store.pending.labels()):
            self._hand_back()  # forgotten or renamed since: decide anew
            return
        try:
            if self._reviewer.review(due.decision.labels) and due.decision.cause != "hand":
                self._due = None  # what is left may not be enough for a step
                return
            self._began_s = time.monotonic()
            if self._analytic is not None:
                finished = self._analytic.learn(self._context, due.decision, self._still_counts)
            else:
                # Deletions that keep coming must not keep it from ever ending: once it leaves out what was deleted.
                patient = due.restarts >= MAX_RESTARTS
                check = self._still_counts.may_go_on if patient else self._still_counts
                finished = learn_pending(self._context, due.decision, check, leave_out_deleted=patient)
        except NothingToLearn as error:
            log.info("step.nothing_to_learn", extra=fields(reason=str(error)))
            self._due = due.then()
        except Blocked as error:
            self._due = replace(due, not_before_s=time.monotonic() + BLOCKED_S, blocked=str(error))
        except InputsChanged as error:
            self._due = replace(due, restarts=due.restarts + 1)
            self._discarded(str(error))
        except (Fenced, Interrupted, StoreUnavailable) as error:
            self._discarded(str(error))
            raise
        except Exception as error:
            # Whatever it was, the loop must go on: pending examples of other classes wait for it.
            log.exception("step.failed", extra=fields(attempt=due.failures + 1))
            self._failed(due, str(error) or type(error).__name__)
        else:
            self._due = due.then()
            self._metrics.count_step(finished.outcome, finished.seconds)
            self._retire(finished.versions)

    def _discarded(self, reason: str) -> None:
        log.info("step.discarded", extra=fields(reason=reason))
        self._metrics.count_step("discarded")
        with contextlib.suppress(StoreUnavailable):  # it may be why
            self._context.store.events.append("discarded", {"reason": reason})

    def _failed(self, due: DueStep, reason: str) -> None:
        """Report a failure and decide what is due after it.

        After the last attempt that is allowed, halves are tried, and a label that fails alone goes into quarantine. All
        of a first step go there, since a model of a part of them tells too little apart.
        """
        config, store = self._context.config, self._context.store
        failures = due.failures + 1
        self._metrics.count_step("failed")
        event = {"reason": reason, "attempt": failures}
        if failures < config.max_failures:
            wait_s = wait_after(failures, first_s=config.retry_s)
            self._due = replace(due, failures=failures, not_before_s=time.monotonic() + wait_s)
        elif len(due.decision.labels) > 1 and store.registry.latest_ready() is not None:
            self._due = due.halves()
            log.warning("step.halved", extra=fields(labels=sorted(due.decision.labels), reason=reason))
        else:
            counts = store.pending.counts()
            examples = {label: counts[label].examples for label in due.decision.labels if label in counts}
            store.quarantine.add(self._context.lease.epoch, examples, event)
            self._due = due.then()
            log.error("step.quarantined", extra=fields(labels=sorted(examples), reason=reason))
            return  # the quarantine reports the failure, too
        store.events.append("failed", event)

    def _retire(self, versions: Sequence[VersionRecord]) -> None:
        """Remove what nothing needs of all versions, oldest first."""
        context = self._context
        newest = next((record for record in reversed(versions) if record.state == "ready"), None)
        self._unjudged = f"version {newest.version}: {newest.reason}" if newest is not None and newest.reason else ""
        retire(
            context.store,
            context.artifacts,
            versions,
            keep=context.config.keep_versions,
            epoch=context.lease.epoch,
            keep_records=None if self._analytic is None else _records(newest),
        )
        clear_backbones(context.store, context.artifacts, "" if self._analytic is None else self._analytic.backbone)


def _records(newest: VersionRecord | None) -> int:
    """Return how many records of versions of a closed form are kept."""
    labels = 1 if newest is None else max(1, len(newest.labels))
    return min(MOST_RECORDS, max(FEWEST_RECORDS, LABELS_IN_RECORDS // labels))
