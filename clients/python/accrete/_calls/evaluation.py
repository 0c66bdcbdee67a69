"""Measuring the live version on a folder of images: they are read and sent by several calls at a time."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from functools import partial

from .._errors import InvalidInput
from .._evaluation import Evaluation, Evaluator, RefusedImage
from .._inputs import Example, source_of
from .._transport.caller import Caller
from . import operation, prediction
from .folder import find_images
from .progress import Report, shown


async def evaluate(
    caller: Caller,
    path: str | os.PathLike[str],
    *,
    threshold: float,
    unknown_rate: float,
    worst: int,
    progress: bool | Report,
    timeout: float | None,
) -> Evaluation:
    """Measure on a tree of images with one folder per label. Raises InvalidInput when there are none."""
    if not 0 <= threshold <= 1:
        raise InvalidInput(f"threshold = {threshold}: 0 to 1 is allowed")
    if not 0 <= unknown_rate <= 0.5:
        raise InvalidInput(f"unknown_rate = {unknown_rate}: 0 to 0.5 is allowed")
    if worst < 0:
        raise InvalidInput(f"worst = {worst}: 0 or more is allowed")
    found = await caller.transport.offload(lambda: find_images(path))
    known = [one.label for one in await operation.classes(caller, timeout) if one.state in ("learned", "provisional")]
    evaluator = Evaluator(known, threshold=threshold, worst=worst)
    options = prediction.Options(top_k=1, unknown_rate=unknown_rate)
    images, total = [example.image for example in found.examples], len(found.examples)
    with shown(progress, "images") as report:
        report(0, total)
        counted = _Counted(found.examples, evaluator, report)

        async def measure(part: Sequence[int]) -> None:
            counted.add(part, await prediction.answers_of(caller, images, part, options, timeout))

        parts = await prediction.split(caller, images, prediction.WINDOW)
        await caller.transport.together([partial(measure, part) for part in parts], prediction.WINDOW)
        report(total, total)
    return evaluator.result(counted.refused, found.skipped)


class _Counted:
    """Adds up the answers of calls as they end, in the order of the examples: whichever is first, the result is one."""

    def __init__(self, examples: Sequence[Example], evaluator: Evaluator, report: Report) -> None:
        self.refused: list[RefusedImage] = []
        self._examples = examples
        self._evaluator = evaluator
        self._report = report
        self._lock = threading.Lock()  # calls may end on several threads
        self._waiting: dict[int, Sequence[prediction.Answer]] = {}
        """By the first of its examples, what a call that was faster than those before it has come to."""
        self._done = 0

    def add(self, part: Sequence[int], answers: Sequence[prediction.Answer]) -> None:
        """Add the answers for some examples, which follow each other."""
        with self._lock:
            self._waiting[part[0]] = answers
            while (following := self._waiting.pop(self._done, None)) is not None:
                for outcome in following:
                    self._count(self._examples[self._done], outcome)
                    self._done += 1
                self._report(self._done, len(self._examples))

    def _count(self, example: Example, outcome: prediction.Answer) -> None:
        file = source_of(example.image)
        if isinstance(outcome, str):
            self.refused.append(RefusedImage(file=file, label=example.label, reason=outcome))
        else:
            self._evaluator.add(file, example.label, outcome)
