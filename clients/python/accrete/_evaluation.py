"""The measures of a version on labelled images, added up one image at a time."""

from __future__ import annotations

import heapq
import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ._results import Prediction

BINS = 10
"""Of the calibration error: as many as in the papers."""

_95_PERCENT = 1.959963984540054
"""Standard deviations to either side of the mean that hold 95 % of a normal distribution."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """How many of some images are right, and between what the true share lies with a confidence of 95 %."""

    right: int
    images: int

    @property
    def value(self) -> float | None:
        """0 to 1; None of no images."""
        return self.right / self.images if self.images else None

    @property
    def interval(self) -> tuple[float, float]:
        """Lowest and highest, by Wilson's score interval (JASA 1927); 0 and 1 of no images."""
        if not self.images:
            return 0.0, 1.0
        n, z = self.images, _95_PERCENT
        share = self.right / n
        centre = share + z * z / (2 * n)
        half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
        lowest, highest = ((centre + sign * half) / (1 + z * z / n) for sign in (-1, 1))
        return max(0.0, lowest), min(1.0, highest)


@dataclass(frozen=True, kw_only=True, slots=True)
class Confusion:
    """How often images of a label were answered with another one."""

    label: str
    answer: str
    images: int


@dataclass(frozen=True, kw_only=True, slots=True)
class CalibrationBin:
    """The answers whose probability lies between two values."""

    above: float
    """All of them, but for the first bin, which holds a probability of 0 too."""
    up_to: float
    answers: Share
    probability: float | None
    """Their mean; None of none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Mistake:
    """A wrong answer."""

    file: str
    label: str
    answer: str
    probability: float
    """Of the answer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RefusedImage:
    """An image that could not be predicted."""

    file: str
    label: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """What `evaluate` found. All but `strangers`, `refused` and `skipped` is of labels that the model knows."""

    versions: tuple[int, ...]
    """That answered: more than one when a version went live meanwhile."""
    all: Share
    """Whether marked as unknown or not."""
    classes: Mapping[str, Share]
    """By label, of those with images."""
    confusions: tuple[Confusion, ...]
    """Most frequent first."""
    calibration_error: float | None
    """Mean distance between the probability of answers and the share that is right, over ten bins, each weighed by its
    images (ECE; Guo et al., On Calibration of Modern Neural Networks, ICML 2017); None of no images."""
    calibration: tuple[CalibrationBin, ...]
    unknown: int
    """Marked as unknown."""
    provisional: int
    """Answered with a class that no step has learned yet."""
    threshold: float
    """By which an answer was doubted; see `Prediction.doubt`."""
    doubted: int
    """That a person would be asked about."""
    undoubted: Share
    """All others."""
    worst: tuple[Mistake, ...]
    """The most probable wrong answers."""
    strangers: Mapping[str, int]
    """By label, how many images the folder has of labels that the model does not know."""
    strangers_unknown: int
    """How many of these were marked as unknown."""
    strangers_doubted: int
    """How many of these a person would be asked about."""
    unmeasured: tuple[str, ...]
    """Labels that the model knows and the folder has no image of."""
    refused: tuple[RefusedImage, ...]
    skipped: Mapping[str, int]
    """How many files or folders were passed over, by reason."""


@dataclass(kw_only=True, slots=True)
class _Bin:
    right: int = 0
    images: int = 0
    probability: float = 0.0
    """Added up."""


class Evaluator:
    """Adds up the answers for images, of which it keeps the wrong ones that count among the worst."""

    def __init__(self, known: Sequence[str], *, threshold: float, worst: int) -> None:
        """Add up nothing yet.

        Args:
            known: the labels that the model knows.
            threshold: of the probability below which an answer is doubted.
            worst: wrong answers to keep.
        """
        self._known = dict.fromkeys(known)
        self._threshold = threshold
        self._limit = worst
        self._right: Counter[str] = Counter()
        self._images: Counter[str] = Counter()
        self._confusions: Counter[tuple[str, str]] = Counter()
        self._bins = [_Bin() for _ in range(BINS)]
        self._marks: Counter[str] = Counter()
        self._strangers: Counter[str] = Counter()
        self._worst: list[tuple[float, int, Mistake]] = []
        self._numbers = itertools.count()
        self._versions: set[int] = set()

    def add(self, file: str, label: str, prediction: Prediction) -> None:
        """Add the answer for one image."""
        self._versions.add(prediction.version)
        doubted = prediction.doubt(self._threshold) is not None
        if label not in self._known:
            self._strangers[label] += 1
            self._marks["strangers unknown"] += prediction.unknown
            self._marks["strangers doubted"] += doubted
            return
        right = prediction.label == label
        self._images[label] += 1
        self._right[label] += right
        self._marks["unknown"] += prediction.unknown
        self._marks["provisional"] += prediction.provisional
        self._marks["doubted"] += doubted
        self._marks["undoubted right"] += right and not doubted
        bin_ = self._bins[min(max(math.ceil(prediction.probability * BINS) - 1, 0), BINS - 1)]
        bin_.images += 1
        bin_.right += right
        bin_.probability += prediction.probability
        if not right:
            self._confusions[label, prediction.label] += 1
            mistake = Mistake(file=file, label=label, answer=prediction.label, probability=prediction.probability)
            self._keep(mistake)

    def _keep(self, mistake: Mistake) -> None:
        heapq.heappush(self._worst, (mistake.probability, -next(self._numbers), mistake))
        if len(self._worst) > self._limit:
            heapq.heappop(self._worst)

    def result(self, refused: Sequence[RefusedImage], skipped: Mapping[str, int]) -> Evaluation:
        """Return what all answers came to."""
        images, marks = self._images.total(), self._marks
        confused = [Confusion(label=label, answer=answer, images=n) for (label, answer), n in self._confusions.items()]
        error = sum(abs(one.probability - one.right) for one in self._bins)
        return Evaluation(
            versions=tuple(sorted(self._versions)),
            all=Share(right=self._right.total(), images=images),
            classes={label: Share(right=self._right[label], images=self._images[label]) for label in self._images},
            confusions=tuple(sorted(confused, key=lambda one: (-one.images, one.label, one.answer))),
            calibration_error=error / images if images else None,
            calibration=tuple(
                CalibrationBin(
                    above=number / BINS,
                    up_to=(number + 1) / BINS,
                    answers=Share(right=one.right, images=one.images),
                    probability=one.probability / one.images if one.images else None,
                )
                for number, one in enumerate(self._bins)
            ),
            unknown=marks["unknown"],
            provisional=marks["provisional"],
            threshold=self._threshold,
            doubted=marks["doubted"],
            undoubted=Share(right=marks["undoubted right"], images=images - marks["doubted"]),
            worst=tuple(mistake for *_, mistake in sorted(self._worst, reverse=True)),
            strangers=dict(sorted(self._strangers.items())),
            strangers_unknown=marks["strangers unknown"],
            strangers_doubted=marks["strangers doubted"],
            unmeasured=tuple(label for label in self._known if not self._images[label]),
            refused=tuple(refused),
            skipped=dict(skipped),
        )
