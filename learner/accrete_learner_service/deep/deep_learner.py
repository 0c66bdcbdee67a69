"""Deep steps beside the learner's loop: a thread stages one and follows the trainer, the loop makes a version of it.

Nothing of a deep step counts before its commit, which changes all features, their backbone and the live version at
once. Whatever ends one before leaves the store as it was.
"""

from __future__ import annotations

import logging
import math
import shutil
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from safetensors.numpy import load_file

from accrete_kit.spans import in_words
from accrete_learner.deep import job
from accrete_learner.deep.job import DeepJob, DeepResult
from accrete_learner.deep.refusal import missing, refusal
from accrete_learner_service.analytic.extractor import FrozenExtractor
from accrete_learner_service.analytic.learning import AnalyticLearner
from accrete_learner_service.deep.due import is_due, margin
from accrete_learner_service.deep.staging import Found, Staged, catch_up, stage
from accrete_learner_service.errors import Interrupted, NothingToLearn
from accrete_learner_service.runtime.logs import fields
from accrete_learner_service.runtime.status import Progress
from accrete_learner_service.step.conclusion import FinishedStep
from accrete_learner_service.step.context import LearnerContext
from accrete_learner_service.step.still_counts import StillCounts
from accrete_model.files import GRAPH_FILE
from accrete_model.frozen import BackboneStore, FrozenBackbone
from accrete_model.frozen.backbone import CARD_FILE
from accrete_storage.deep import LastDeepStep
from accrete_storage.errors import Fenced, InputsChanged, StoreUnavailable

log = logging.getLogger(__name__)

#: Seconds between two looks whether a deep step is due.
LOOK_S = 5.0
#: Seconds between two reports of one.
REPORT_S = 5.0
#: Seconds that the loop computes features at a time.
SLICE_S = 0.5
_BY_HAND_FILE = "deep_by_hand"


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """A tuned backbone that was found better."""

    staged: Staged
    result: DeepResult
    extractor: FrozenExtractor
    found: Found
    """Features by it."""


@dataclass(kw_only=True)
class _Running:
    """A deep step between its start and its end."""

    folder: Path
    by_hand: bool
    made_of: LastDeepStep
    """What was at hand at its start."""
    given_up: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None
    result: DeepResult | None = None
    tuned: Tuned | None = None
    error: BaseException | None = None
    began_s: float = field(default_factory=time.monotonic)


class DeepLearner:
    """Starts deep steps and makes versions of them. For the loop's thread."""

    def __init__(self, context: LearnerContext, analytic: AnalyticLearner, stopping: threading.Event) -> None:
        """Make it without starting anything.

        Args:
            context: what to work with; its trainer is used by deep steps alone.
            analytic: learns on the backbone.
            stopping: a deep step ends when this is set.
        """
        self._context = context
        self._analytic = analytic
        self._stopping = stopping
        config = context.config
        self._refusal = refusal(config.model, config.method, config.deep)
        self._running: _Running | None = None
        self._looked_s = -math.inf

    @property
    def is_running(self) -> bool:
        """Whether a deep step has begun and not come to its end."""
        return self._running is not None

    def turn(self, rested_s: float) -> FinishedStep | None:
        """Start a deep step that is due, or go on with one that runs, for a second at most.

        Args:
            rested_s: seconds since the last step of the loop; 0 while one is due.

        Returns:
            The step, when one came to a version.

        Raises:
            StoreUnavailable: the store does not answer; call it again.
            Fenced: another learner holds the lease.
            Interrupted: the lease is lost, or the process stops.
        """
        running = self._running
        if running is None:
            self._begin_if_due(rested_s)
            return None
        if running.thread is None or running.thread.is_alive():
            return None
        if running.tuned is not None:
            return self._adopt(running, running.tuned)
        self._end(running)
        return None

    def give_up(self) -> None:
        """End what runs, and return when it is gone. One that was asked for by hand is asked for again."""
        running, self._running = self._running, None
        if running is None or running.thread is None:
            return
        running.given_up.set()
        running.thread.join()
        if running.tuned is not None:
            running.tuned.extractor.close()
        self._close(running)
        if running.by_hand:
            self._context.store.deep.request()

    def _begin_if_due(self, rested_s: float) -> None:
        store, config = self._context.store, self._context.config
        by_hand = store.deep.take_request()
        if not by_hand and (self._refusal or time.monotonic() - self._looked_s < LOOK_S):
            return
        self._looked_s = time.monotonic()
        counts = {label: count.exemplars for label, count in store.memory.counts().items() if count.exemplars}
        if not (by_hand or is_due(counts, store.deep.last(), rested_s=rested_s, config=config.deep)):
            return
        if reason := self._refusal or missing(config.model):
            if reason != store.deep.text():
                store.deep.tell(reason)
            return
        folder = self._context.work / f"deep-{uuid.uuid4().hex}"
        folder.mkdir(parents=True)
        if by_hand:
            (folder / _BY_HAND_FILE).touch()
        made_of = LastDeepStep(examples=sum(counts.values()), classes=len(counts))
        running = _Running(folder=folder, by_hand=by_hand, made_of=made_of)
        # Its end ends the trainer, which the kernel ties to this thread.
        running.thread = threading.Thread(target=self._run, args=[running], name="deep-step", daemon=True)
        self._running = running
        log.info("deep.started", extra=fields(by_hand=by_hand, examples=made_of.examples, classes=made_of.classes))
        running.thread.start()

    def _run(self, running: _Running) -> None:
        """Stage, train and judge, on a thread of its own."""
        try:
            self._train(running)
        except BaseException as error:  # the loop's thread says what it was
            running.error = error
        finally:
            self._context.trainer.kill()

    def _train(self, running: _Running) -> None:
        context, check = self._context, StillCounts(self._context, self._stopping, running.given_up)
        self._tell("reading what is learned")
        staged = stage(context.store, running.folder, self._analytic.extractor.kind, check)
        config = context.config
        deep = replace(config.deep, margin=margin(config.deep, by_hand=running.by_hand))
        DeepJob(model=config.model, training=config.training, deep=deep).write(running.folder)
        still_counts = partial(check, staged.revision)
        self._tell("starting PyTorch")
        progress = _Told(self, staged.trained)
        context.trainer.run(running.folder, progress, still_counts, progress.note)
        result = running.result = DeepResult.read(running.folder)
        log.info(
            "deep.judged",
            extra=fields(better=result.better, reason=result.reason, note=result.note, seconds=result.stage_seconds),
        )
        if not result.better:
            return
        backbones = BackboneStore(context.artifacts.backbones)
        extractor = FrozenExtractor(config.model, backbones, _read_backbone(running.folder))
        features = load_file(running.folder / job.FEATURES_FILE)["features"]
        found: Found = {}
        for (label, name), row in zip(staged.names, features, strict=True):
            found.setdefault(label, {})[name] = row
        self._tell("catching up with what was learned meanwhile")
        with suppress(StoreUnavailable):  # the loop goes on with it, once the store answers
            catch_up(context.store, found, extractor.run, seconds=math.inf, check=still_counts)
        running.tuned = Tuned(staged=staged, result=result, extractor=extractor, found=found)

    def _adopt(self, running: _Running, tuned: Tuned) -> FinishedStep | None:
        """Make a version of a tuned backbone, once nothing is missing."""
        context = self._context
        check = partial(StillCounts(context, self._stopping, running.given_up), tuned.staged.revision)
        try:
            if not catch_up(context.store, tuned.found, tuned.extractor.run, seconds=SLICE_S, check=check):
                return None
            finished = self._analytic.adopt(
                context,
                tuned.extractor,
                tuned.found,
                revision=tuned.staged.revision,
                unseen_below=tuned.staged.unseen_below,
                gain=tuned.result.reason,
                check=check,
            )
        except (StoreUnavailable, Fenced):
            raise  # the next turn tries again, or this learner begins anew
        except Exception as error:
            running.error, running.tuned = error, None
            tuned.extractor.close()
            self._end(running)
            return None
        self._running = None
        self._finished(running, f"kept, {tuned.result.reason}", note=tuned.result.note)
        return finished

    def _end(self, running: _Running) -> None:
        """Say what became of a deep step without a version."""
        self._running = None
        error, store = running.error, self._context.store
        if isinstance(error, InputsChanged | Interrupted | StoreUnavailable):
            log.info("deep.discarded", extra=fields(reason=str(error)))
            store.events.append("discarded", {"reason": f"deep step: {error}"})
            store.deep.tell(f"given up: {error}")
            if running.by_hand:
                store.deep.request()
            self._close(running)
        elif isinstance(error, NothingToLearn):
            self._drop(running, str(error))
        elif error is not None:
            log.error("deep.failed", exc_info=error)
            reason = str(error) or type(error).__name__
            store.events.append("failed", {"reason": f"deep step: {reason}", "attempt": 1})
            self._finished(running, f"failed: {reason}")
        else:
            assert running.result is not None
            result = running.result
            points = 100 * margin(self._context.config.deep, by_hand=running.by_hand)
            least = (
                f"surely gain something, and {points:g} points"
                if points > 0
                else f"lose no more than {abs(points):g} points"
            )
            reason = f"dropped, {result.reason}; it must {least}"
            self._drop(running, reason, note=result.note)

    def _drop(self, running: _Running, text: str, *, note: str = "") -> None:
        # There is no version of it, and so no number.
        self._context.store.events.append("rejected", {"version": 0, "reason": f"deep step: {text}"})
        self._finished(running, text, note=note)

    def _finished(self, running: _Running, text: str, *, note: str = "") -> None:
        minutes = (time.monotonic() - running.began_s) / 60
        log.info("deep.finished", extra=fields(verdict=text, note=note, minutes=round(minutes, 1)))
        self._context.store.deep.tell(f"{text} ({note})" if note else text, running.made_of)
        self._close(running)

    def _close(self, running: _Running) -> None:
        shutil.rmtree(running.folder, ignore_errors=True)

    def _tell(self, text: str) -> None:
        """Say how far it is, for the status; a store that is away misses it."""
        try:
            self._context.store.deep.tell(text)
        except StoreUnavailable as error:
            log.debug("deep.not_told", extra=fields(reason=str(error)))


class _Told:
    """Reports of one deep step, as the trainer makes them."""

    def __init__(self, learner: DeepLearner, images: int) -> None:
        self._learner = learner
        self._images = images
        self._stage = ""
        self._began_s = 0.0
        self._told_s = -math.inf
        self._note = ""

    def note(self, text: str) -> None:
        """Keep what is worth knowing of it."""
        log.info("deep.note", extra=fields(text=text))
        self._note = text
        self._told_s = -math.inf

    def __call__(self, progress: Progress) -> None:
        """Tell how far it is, not more often than anyone looks."""
        now = time.monotonic()
        if progress.stage != self._stage:
            self._stage, self._began_s, self._told_s = progress.stage, now, -math.inf
        if now - self._told_s < REPORT_S:
            return
        self._told_s = now
        left = (now - self._began_s) * (progress.total - progress.done) / max(1, progress.done)
        note = f"; {self._note}" if self._note else ""
        self._learner._tell(f"{self.what(progress)}, about {in_words(left)} left{note}")
        self._learner._context.reporter.progress(0, progress)

    def what(self, progress: Progress) -> str:
        """Return the stage and how much of it is done."""
        if progress.stage != "deep training":
            return f"{progress.stage} {progress.done} of {progress.total} images"
        of = f"epoch {1 + progress.done // self._images} of about {max(1, math.ceil(progress.total / self._images))}"
        return f"training, {of}"


def left_by_hand(work: Path) -> bool:
    """Return whether a killed learner left a deep step there that was asked for by hand."""
    return any(work.glob(f"*/{_BY_HAND_FILE}"))


def _read_backbone(folder: Path) -> FrozenBackbone:
    files = folder / job.BACKBONE_FOLDER
    return FrozenBackbone.from_card((files / CARD_FILE).read_bytes(), (files / GRAPH_FILE).read_bytes())
