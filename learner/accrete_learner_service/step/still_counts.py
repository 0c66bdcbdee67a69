"""Whether a step that is under way can still come to a version."""

from __future__ import annotations

import math
import threading
import time

from accrete_learner_service.errors import Interrupted
from accrete_learner_service.step.context import LearnerContext
from accrete_storage.errors import InputsChanged, StoreUnavailable

#: Seconds between two looks whether a step's inputs still stand.
REVISION_CHECK_S = 1.0


class StillCounts:
    """Ends a step that cannot count any more. For one thread; call it often."""

    def __init__(self, context: LearnerContext, *stops: threading.Event) -> None:
        """Make it without looking.

        Args:
            context: whose lease and store count.
            stops: the step ends when any of these is set.
        """
        self._context = context
        self._stops = stops
        self._checked_s = -math.inf

    def __call__(self, revision: int) -> None:
        """Look whether a step on inputs of that revision counts.

        Raises:
            Interrupted: the process is to stop, or the lease is lost.
            InputsChanged: something was deleted, forgotten, renamed or merged since the inputs were read.
        """
        self.may_go_on(revision)
        if time.monotonic() - self._checked_s < REVISION_CHECK_S:
            return
        self._checked_s = time.monotonic()
        try:
            found = self._context.store.registry.state().revision
        except StoreUnavailable:
            return  # the lease's thread decides how long that may last, and the commit checks again
        if found != revision:
            raise InputsChanged("examples were deleted, or a class forgotten, renamed or merged, during the step")

    def may_go_on(self, _: int) -> None:
        """Look whether a step may go on, whatever was deleted.

        Raises:
            Interrupted: the process is to stop, or the lease is lost.
        """
        if any(stop.is_set() for stop in self._stops):
            raise Interrupted("shutting down")
        if not self._context.lease.held:
            raise Interrupted("the lease is lost")
