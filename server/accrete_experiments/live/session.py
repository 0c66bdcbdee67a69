"""Teaches a group of classes, waits until it is learned, measures, and goes on with the next group."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from accrete import (
    AccreteError,
    Client,
    Event,
    NotLearned,
    PhaseChanged,
    Progress,
    StepFailed,
    StepRejected,
    VersionCommitted,
)
from accrete_experiments.live.data import Dataset
from accrete_experiments.live.display import Display
from accrete_experiments.live.figures import History, VersionRow, accuracy_of, measure
from accrete_experiments.live.traffic import State, Traffic
from accrete_learner_service.config import LearnerServiceConfig

SEND_BATCH = 32
AT_WORK = ("staging", "training", "gating", "committing")
ATTEMPTS = LearnerServiceConfig.max_failures
_LEARNED_S = 30.0
"""A version that is live has all that its group taught, unless a class had nothing to train on."""
_LOOK_S = 1.0
"""Between two looks at whether the learner is in trouble."""


class SessionFailed(Exception):
    """The loop did not come round; the message says where it stopped."""


@dataclass(frozen=True, kw_only=True)
class Course:
    """What is taught in which groups, and how it is measured."""

    dataset: Dataset
    groups: Sequence[Sequence[str]]
    seed: int
    idle_s: float
    """Seconds of rest after each version, during which the idle latency is measured."""
    rate: float
    """Predict calls per second."""
    step_timeout_s: float
    at_once: bool = False
    """Whether the learner learns each example as it comes, in as many versions as it likes, and is not asked to."""


class Session:
    """One run of a course against a server."""

    def __init__(self, course: Course, address: str, display: Display) -> None:
        self._course = course
        self._client = Client(address)
        self._display = display
        self._traffic = Traffic(address, course.dataset.test.images, rate=course.rate)
        self._history = History()
        self._rows: list[VersionRow] = []
        self._step_seconds: dict[int, float] = {}
        self._trouble: str | None = None
        self._generator = np.random.default_rng(course.seed)

    def run(self) -> dict[str, Any]:
        """Run to the end and return the summary.

        Raises:
            SessionFailed: The loop did not come round.
            AccreteError: A call failed.
        """
        started = time.monotonic()
        self._client.wait_ready(60)
        watcher = threading.Thread(target=self._watch, daemon=True)
        watcher.start()
        try:
            self._display.header()
            known: list[str] = []
            for group in self._course.groups:
                self._display.row(self._learn(group, known))
                known += group
        finally:
            self._traffic.stop()
            swaps = self._swaps()
            self._client.close()
        return self._summary(time.monotonic() - started, swaps)

    def _learn(self, group: Sequence[str], known: Sequence[str]) -> VersionRow:
        """Teach a group, wait until its version is live, measure it."""
        calls_before, failed_before = len(self._traffic.calls), self._traffic.failures()
        ids = self._teach(group)
        if not self._course.at_once:
            self._client.trigger_step()
        acknowledged = time.monotonic()
        version = self._wait(ids, len(self._rows) + 1)
        seconds = time.monotonic() - acknowledged
        self._display.step_over()
        row = self._measured(version, group, known, seconds)
        self._traffic.start()
        time.sleep(self._course.idle_s)
        latency = {
            f"predict_{name}_{state}_ms": self._traffic.percentile(state, share, calls_before)
            for name, share in (("p50", 0.5), ("p99", 0.99))
            for state in _STATES
        }
        failed = self._traffic.failures() - failed_before
        row = VersionRow(**{**asdict(row), **latency, "predicts_failed": failed})
        self._rows.append(row)
        return row

    def _teach(self, group: Sequence[str]) -> list[str]:
        """Send the group's examples as a stream, in the order of their arrival."""
        examples = self._course.dataset.train.of(group).shuffled(self._generator)
        ids = []
        with self._display.examples(len(examples.labels)) as advance:
            pairs = list(zip(examples.labels, examples.images, strict=True))
            for result in self._client.stream_examples(pairs, batch_size=SEND_BATCH):
                if result.outcome == "refused":
                    raise SessionFailed(f"an example was refused: {result.reason}")
                ids.append(result.id)
                advance(1)
        return ids

    def _wait(self, ids: Sequence[str], versions: int) -> int:
        """Until the examples are in the live version."""
        if len(ids) == 0:
            raise SessionFailed("a group of classes has no examples")
        deadline = time.monotonic() + self._course.step_timeout_s
        while time.monotonic() < deadline:
            if self._trouble is not None:
                raise SessionFailed(self._trouble)
            if self._course.at_once:
                with suppress(NotLearned):
                    return self._client.wait_learned(ids, timeout=_LOOK_S)
            elif self._client.status().version >= versions:
                return self._client.wait_learned(ids, timeout=_LEARNED_S)
            else:
                time.sleep(0.1)
        raise SessionFailed(f"what was taught was not learned within {self._course.step_timeout_s:.0f} s")

    def _measured(self, version: int, group: Sequence[str], known: Sequence[str], seconds: float) -> VersionRow:
        self._traffic.measuring = True
        tallies = measure(self._client, self._course.dataset.test.of([*known, *group]))
        self._traffic.measuring = False
        forgetting = self._history.add(tallies)
        return VersionRow(
            version=version,
            classes=len(tallies),
            accuracy=self._history.overall[-1],
            accuracy_old=accuracy_of(tallies, known),
            accuracy_new=accuracy_of(tallies, group),
            forgetting=forgetting,
            seconds=seconds,
            step_seconds=self._step_seconds.get(version, 0.0),
            predict_p50_idle_ms=None,
            predict_p99_idle_ms=None,
            predict_p50_learning_ms=None,
            predict_p99_learning_ms=None,
            predicts_failed=0,
        )

    def _watch(self) -> None:
        """Follow the learner: the bars, and whether it is at work."""
        try:
            for event in self._client.watch(after="0"):
                self._note(event)
        except AccreteError as error:
            if self._client is not None and self._trouble is None:
                self._trouble = f"watching ended: {error}"

    def _note(self, event: Event) -> None:
        match event:
            case PhaseChanged(phase=phase):
                self._traffic.learning = phase in AT_WORK
                if self._traffic.learning:
                    self._display.busy(f"step: {phase}")
                else:
                    self._display.step_over()
            case Progress(stage=stage, done=done, total=total, loss=loss):
                self._display.step(stage, done, total, loss)
            case VersionCommitted(version=version, step_seconds=seconds):
                self._step_seconds[version] = seconds
            case StepRejected(reason=reason):
                self._trouble = f"the step was rejected: {reason}"
            case StepFailed(reason=reason, attempt=attempt) if attempt >= ATTEMPTS:
                self._trouble = f"the step failed: {reason}"
            case StepFailed(reason=reason):
                self._display.say(f"a step failed and is run again: {reason}", "yellow")
            case _:
                pass

    def _swaps(self) -> int:
        """Return how many versions went live, as the responses to Predict told."""
        versions = [call.version for call in self._traffic.calls if call.version]
        return len(set(versions))

    def _summary(self, seconds: float, swaps: int) -> dict[str, Any]:
        failed = self._traffic.failures()
        percentiles = {
            f"predict_{name}_ms": {state: self._traffic.percentile(state, share) for state in _STATES}
            for name, share in (("p50", 0.5), ("p99", 0.99))
        }
        last = self._rows[-1]
        return {
            "versions": [asdict(row) for row in self._rows],
            "final_accuracy": last.accuracy,
            "average_incremental_accuracy": self._history.average_incremental(),
            "forgetting": last.forgetting,
            "predicts_ok": len(self._traffic.calls) - failed,
            "predicts_failed": failed,
            **percentiles,
            "swaps": swaps,
            "seconds": seconds,
            "errors": self._traffic.errors[:10],
        }


_STATES: tuple[State, ...] = ("idle", "learning")
