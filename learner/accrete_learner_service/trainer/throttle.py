"""Training that yields to serving where the kernel's priorities do not reach, as on a GPU and between containers.

While a server asks, the trainer is stopped and continued by turns, many times a second. Its duty cycle, which is the
part of the time that it runs, halves at each look and rises slowly when nobody asks any more (additive increase,
multiplicative decrease: Chiu and Jain, Computer Networks and ISDN Systems 17, 1989).
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from accrete_kit.periodic import PeriodicTask
from accrete_learner_service.runtime.logs import fields
from accrete_learner_service.trainer.child import Trainer
from accrete_storage.errors import StorageError

log = logging.getLogger(__name__)

#: Least duty cycle of training: what is taught is learned some day, whatever is asked.
LEAST_DUTY_CYCLE = 0.05
#: Seconds between two looks at whether it is to yield.
LOOK_S = 0.25
#: What the duty cycle rises by at each look at which nobody asks.
_RISE = 0.01
#: Seconds of one stop and one run together: a call that comes at a bad moment waits for a part of it.
_TURN_S = 0.01


def next_duty_cycle(duty_cycle: float, asked: bool) -> float:
    """Return the duty cycle of training after a look, from `LEAST_DUTY_CYCLE` to 1."""
    return max(LEAST_DUTY_CYCLE, duty_cycle / 2) if asked else min(1.0, duty_cycle + _RISE)


class TrainingThrottle:
    """Stop and continue the trainer, on a thread of its own, as long as somebody asks."""

    def __init__(self, asked: Callable[[], bool], trainer: Trainer, on_change: Callable[[float], None]) -> None:
        """Make it without starting it.

        Args:
            asked: returns whether training is to yield. Called every `LOOK_S`; may raise StorageError.
            trainer: to throttle.
            on_change: called with the duty cycle after each look.
        """
        self._asked = asked
        self._trainer = trainer
        self._on_change = on_change
        self._duty_cycle = 1.0
        self._task = PeriodicTask("throttle", self._look_and_take_turns, every_s=0)

    def start(self) -> None:
        """Start to look."""
        self._task.start()

    def stop(self) -> None:
        """Let the trainer go on for good, and return when the thread has ended."""
        self._task.stop()

    def _look_and_take_turns(self) -> None:
        self._look()
        self._take_turns()

    def _look(self) -> None:
        try:
            asked = self._asked()
        except StorageError:  # who cannot be asked asks for nothing
            asked = False
        duty_cycle = next_duty_cycle(self._duty_cycle, asked)
        if (duty_cycle < 1) != (self._duty_cycle < 1):
            event = "training.yields" if duty_cycle < 1 else "training.yields_no_more"
            log.info(event, extra=fields(duty_cycle=duty_cycle))
        self._duty_cycle = duty_cycle
        self._on_change(duty_cycle)

    def _take_turns(self) -> None:
        """Stop and continue the trainer until the next look, and leave it running."""
        if self._duty_cycle == 1:
            self._task.wait(LOOK_S)
            return
        for _ in range(round(LOOK_S / _TURN_S)):
            self._trainer.halt()
            self._task.wait(_TURN_S * (1 - self._duty_cycle))
            self._trainer.go_on()
            self._task.wait(_TURN_S * self._duty_cycle)
