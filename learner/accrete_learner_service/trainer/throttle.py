"""Training that yields to serving where the kernel's priorities do not reach: on a GPU, between containers.

While a server asks, the trainer is stopped and let go on by turns, many times a second. The share of the time that it
gets falls by half at each look and rises slowly when nobody asks any more (additive increase, multiplicative decrease).
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from accrete_kit.periodic import PeriodicTask
from accrete_learner_service.runtime.logs import fields
from accrete_learner_service.trainer.child import Trainer
from accrete_storage.errors import StorageError

log = logging.getLogger(__name__)

#: Least share of the time that training gets: what is taught is learned some day, whatever is asked.
LEAST_SHARE = 0.05
#: Seconds between two looks at whether it is to yield.
LOOK_S = 0.25
#: What the share rises by at each look at which nobody asks.
_RISE = 0.01
#: Seconds of one stop and one run together: a call that comes at a bad moment waits for a part of it.
_TURN_S = 0.01


def next_share(share: float, asked: bool) -> float:
    """The share of the time that training gets after a look, from `LEAST_SHARE` to 1."""
    return max(LEAST_SHARE, share / 2) if asked else min(1.0, share + _RISE)


class Yielding:
    """Stops and continues the trainer, on a thread of its own, as long as somebody asks."""

    def __init__(self, asked: Callable[[], bool], trainer: Trainer, on_share: Callable[[float], None]) -> None:
        """`asked` is called every `LOOK_S` and may raise StorageError; `on_share` gets each share."""
        self._asked = asked
        self._trainer = trainer
        self._on_share = on_share
        self._share = 1.0
        self._task = PeriodicTask("yielding", self._look_and_take_turns, every_s=0)

    def start(self) -> None:
        """Starts to look."""
        self._task.start()

    def stop(self) -> None:
        """Lets the trainer go on for good; returns when the thread has ended."""
        self._task.stop()

    def _look_and_take_turns(self) -> None:
        self._look()
        self._take_turns()

    def _look(self) -> None:
        try:
            asked = self._asked()
        except StorageError:  # who cannot be asked asks for nothing
            asked = False
        share = next_share(self._share, asked)
        if (share < 1) != (self._share < 1):
            log.info("training.yields" if share < 1 else "training.yields_no_more", extra=fields(share=share))
        self._share = share
        self._on_share(share)

    def _take_turns(self) -> None:
        """Until the next look, after which the trainer runs."""
        if self._share == 1:
            self._task.wait(LOOK_S)
            return
        for _ in range(round(LOOK_S / _TURN_S)):
            self._trainer.halt()
            self._task.wait(_TURN_S * (1 - self._share))
            self._trainer.go_on()
            self._task.wait(_TURN_S * self._share)
