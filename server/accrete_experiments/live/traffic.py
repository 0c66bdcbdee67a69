"""A steady flow of Predict calls, as an application would send them, and how long each took."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np

from accrete import AccreteError, Client
from accrete_experiments.live.data import Image

State = Literal["idle", "learning", "measuring"]
WORKERS = 8


@dataclass(frozen=True, slots=True)
class Call:
    """One Predict call."""

    milliseconds: float
    """From the moment it was due, so that a stall counts for each call that it kept from being sent."""
    state: State
    """What else went on when it was due."""
    version: int
    """0: it failed."""


class Traffic:
    """Sends one image at a time at a fixed rate, whether answers come or not (an open loop). No call is made again."""

    def __init__(self, address: str, images: Sequence[Image], *, rate: float) -> None:
        """`rate`: calls per second."""
        self.learning = False
        """Whether the learner is at work."""
        self.measuring = False
        """Whether the session itself asks much of the server; such calls count for neither state."""
        self.calls: list[Call] = []
        self.errors: list[str] = []
        self._client = Client(address, retry=None, timeout=10.0)
        self._images = [image if isinstance(image, np.ndarray) else image.read_bytes() for image in images]
        self._period = 1 / rate
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)

    def start(self) -> None:
        """Begin; the server must have a version by now."""
        if not self._thread.is_alive():
            self._thread.start()

    def stop(self) -> None:
        """End, once every call under way has its answer."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._client.close()

    @property
    def state(self) -> State:
        """What else goes on now."""
        if self.measuring:
            return "measuring"
        return "learning" if self.learning else "idle"

    def failures(self) -> int:
        """Return how many calls got no answer."""
        return sum(call.version == 0 for call in list(self.calls))

    def percentile(self, state: State, share: float, since: int = 0) -> float | None:
        """Return milliseconds within which `share` of the calls from the `since`-th were answered, None without one."""
        took = [call.milliseconds for call in self.calls[since:] if call.state == state and call.version]
        return float(np.percentile(took, 100 * share)) if took else None

    def _send(self) -> None:
        due = time.perf_counter()
        with ThreadPoolExecutor(WORKERS) as pool:
            for number in range(2**62):
                if self._stop.is_set():
                    return
                pool.submit(self._call, self._images[number % len(self._images)], due, self.state)
                due += self._period
                time.sleep(max(0.0, due - time.perf_counter()))

    def _call(self, image: np.ndarray | bytes, due: float, state: State) -> None:
        version = 0
        try:
            version = self._client.predict(image, top_k=1).version
        except AccreteError as error:
            self.errors.append(str(error))
        finally:  # whatever else it may be, it is a failure
            self.calls.append(Call((time.perf_counter() - due) * 1000, state, version))
