"""The line of Predict calls: which are computed together next, and which are refused at once."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from accrete_server.predict.admission import Turns
from accrete_server.predict.batcher import Request

TURN_IMAGES = 8
"""Images that one turn computes at most, unless one call has more: beyond eight, what a turn costs beside the images is
no longer what counts, and the first of its callers waits for the last."""

TURN_S = 0.020
"""Seconds that a turn may take, by the shorter ones of those before. A photograph of 20 ms has a turn of its own:
little would be gained, and its caller would wait for others' photographs."""

_DOWN, _UP = 0.2, 0.02
"""Weights of the latest turn in what an image takes, where it was cheaper and where it was dearer. So this is what an
image takes while nobody else takes the cores: on a busy machine turns are to be full, not short."""


class Line(Turns[Request]):
    """Calls that wait for a turn, first come first served. `take` and `leave` belong together."""

    _image_s = TURN_S  # so that the first turns, which say how long an image takes, are short

    def enter(self, request: Request) -> None:
        """Line a request up.

        Raises:
            LimitExceeded: the line is full, or the turn would likely come after the deadline.
        """
        with self._lock:
            self._check_room(request)
            request.is_waiting = True
            self._line.append(request)

    def take(self) -> list[Request]:
        """Take a turn, if one is free and a request waits, and return the requests that it is for.

        They are as many as take little time, and no more than one turn's share of the line.
        """
        with self._lock:
            line, taken = self._line, list[Request]()
            if not line or self._working >= self._at_once:
                return taken
            self._count(1)
            most = math.ceil(len(line) / self._at_once)
            room = max(1, min(TURN_IMAGES, int(TURN_S / self._image_s)))
            while line and len(taken) < most and (not taken or line[0].images <= room):
                request = line.popleft()
                request.is_waiting = False
                room -= request.images
                taken.append(request)
            return taken

    def leave(self, requests: Sequence[Request], seconds: float) -> None:
        """End a turn for these requests that took so long."""
        image_s = seconds / sum(request.images for request in requests)
        with self._lock:
            self._learn(seconds / len(requests))
            self._image_s += (_DOWN if image_s < self._image_s else _UP) * (image_s - self._image_s)
            self._count(-1)

    def drop(self, request: Request) -> bool:
        """Take a request out of the line. Return whether it was still there."""
        with self._lock:
            was_waiting = request.is_waiting
            if was_waiting:
                request.is_waiting = False
                self._line.remove(request)
            return was_waiting

    def late(self) -> list[Request]:
        """Return the requests in line whose own timeout has passed, of which gRPC does not know."""
        now = time.monotonic()
        with self._lock:
            return [request for request in self._line if request.until is not None and request.until < now]
