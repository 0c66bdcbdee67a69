"""Callers of a node that is struck: writers that keep a ledger, and a reader."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from accrete import AccreteError, Client
from benchmarks.nemesis.ledger import Ledger

Example = tuple[str, Any, str]
"""Label, content and id."""
_AGAIN_S = 0.1


@dataclass(kw_only=True)
class Answers:
    """What callers were told."""

    answered: Counter[int] = field(default_factory=Counter)
    """Predictions by version."""
    failed: list[str] = field(default_factory=list)
    """Predictions that failed in spite of the SDK's repeats."""
    refused: list[str] = field(default_factory=list)
    """Batches that were not acknowledged in spite of the SDK's repeats, and went again."""
    slowest_s: float = 0.0
    """Of a prediction, from the call to its answer."""


def write(
    connect: Callable[[], Client],
    batches: Iterator[list[Example]],
    ledger: Ledger,
    answers: Answers,
    enough: threading.Event,
    *,
    pause_s: float,
) -> None:
    """Teach one batch after the other. After an error the same batch goes again, as an application would."""
    with connect() as client:
        while not enough.is_set():
            _teach(client, ledger, next(batches), answers, enough)
            enough.wait(pause_s)


def _teach(client: Client, ledger: Ledger, batch: list[Example], answers: Answers, enough: threading.Event) -> None:
    for label, _, name in batch:
        ledger.sending(name, label)
    while True:
        try:
            report = client.add_examples(batch)
        except AccreteError as error:
            answers.refused.append(repr(error))
            if enough.wait(_AGAIN_S):
                return
            continue
        for result in report.refused:
            ledger.refuse(result.id, result.reason)
        for name in report.ids:
            ledger.acknowledge(name)
        return


def ask(
    connect: Callable[[], Client], image: Any, answers: Answers, enough: threading.Event, *, pause_s: float = 0.02
) -> None:
    """Predict one image again and again."""
    with connect() as client:
        while not enough.is_set():
            began = time.monotonic()
            try:
                answers.answered[client.predict(image).version] += 1
                answers.slowest_s = max(answers.slowest_s, time.monotonic() - began)
            except AccreteError as error:
                if "add examples" not in str(error):  # nothing has been learned yet
                    answers.failed.append(repr(error))
            enough.wait(pause_s)
