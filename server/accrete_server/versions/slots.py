"""The versions in memory, and the pointer to the live one."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from accrete_kit.failpoints import around
from accrete_model.loaded_version import LoadedVersion
from accrete_model.scoring import Classifier
from accrete_server.errors import NoModel

TEACH_FIRST = (
    "no model version yet: add examples (accrete add DIR, or Teaching.AddExamples) "
    "and the learner will train the first one"
)

RESIDENT = 2
"""Versions in memory at most: the live one and one beside it."""

_POLL_S = 0.01  # between two looks at whether an old version's last request has ended


class Slot:
    """One loaded version and the number of requests that use it."""

    def __init__(self, loaded: LoadedVersion) -> None:
        self.loaded = loaded
        self._lock = threading.Lock()
        self._users = 0
        self._closed = False

    def enter(self) -> bool:
        """Count one more request in, or return False when the version has been freed already."""
        with self._lock:
            self._users += not self._closed
            return not self._closed

    def leave(self) -> None:
        """Count one request out."""
        with self._lock:
            self._users -= 1

    def close_if_idle(self) -> bool:
        """Free the version unless a request still uses it, and return whether it is freed."""
        with self._lock:
            if self._users or self._closed:
                return self._closed
            self._closed = True
        with around("free"):
            self.loaded.close()
        return True


@dataclass(frozen=True, kw_only=True)
class View:
    """All that one request is answered from. It is immutable, and what changes is which view is live."""

    slot: Slot
    classifier: Classifier
    masked: frozenset[str] = frozenset()
    labels: tuple[str, ...] = ()
    """What each row of the version is called now, "" for one whose class is gone for good; empty: as its files say."""
    revision: int = 0
    """The deletion revision that masks and labels were read at."""
    learned: Mapping[str, str] = field(default_factory=dict)
    """The last consumed stream position of each label; empty while the store has not been reached."""

    @property
    def version(self) -> int:
        """The version's number."""
        return self.slot.loaded.version

    @property
    def classes(self) -> tuple[str, ...]:
        """The version's labels in its order, each once, masked ones too."""
        return tuple(dict.fromkeys(filter(None, self.labels or self.slot.loaded.labels)))


class Slots:
    """The live view, and retired versions that still finish their last requests."""

    def __init__(self) -> None:
        self._live: View | None = None
        self._retired: list[Slot] = []
        self._changed = threading.Condition()
        self._closed = False

    @property
    def live(self) -> View | None:
        """The live view. To compute with it, `take` it."""
        return self._live

    @property
    def version(self) -> int:
        """The live version's number, or 0 without one."""
        view = self._live
        return 0 if view is None else view.version

    @property
    def resident(self) -> int:
        """Versions in memory."""
        return len(self._retired) + (self._live is not None)

    def take(self) -> View:
        """Return the live view, kept in memory until `give_back`.

        Raises:
            NoModel: there is none.
        """
        while True:
            view = self._live
            if view is None:
                raise NoModel(TEACH_FIRST)
            if view.slot.enter():
                return view

    def give_back(self, view: View) -> None:
        """End the use of a view that was taken."""
        view.slot.leave()

    def put(self, view: View) -> None:
        """Make `view` live by one pointer store. `reap` frees the version before it after its last request."""
        with self._changed:
            before, self._live = self._live, view
            if before is not None and before.slot is not view.slot:
                self._retired.append(before.slot)
            self._changed.notify_all()

    def reap(self) -> None:
        """Free retired versions whose last request has ended. To be called off the serving threads."""
        self._retired = [slot for slot in self._retired if not slot.close_if_idle()]

    def make_room(self, timeout_s: float) -> bool:
        """Wait until one more version may be loaded.

        It returns False when old requests still use the room after `timeout_s` seconds.
        """
        until = time.monotonic() + timeout_s
        self.reap()
        while self.resident >= RESIDENT:
            if time.monotonic() > until:
                return False
            time.sleep(_POLL_S)
            self.reap()
        return True

    def wait_change(self, seen: View | None, timeout_s: float) -> View | None:
        """Return the live view once it is another than `seen`, the slots are closed or woken, or time has passed.

        Args:
            seen: the live view that the caller knows.
            timeout_s: seconds to wait at most.
        """
        with self._changed:
            if self._live is seen and not self._closed:
                self._changed.wait(timeout_s)
            return self._live

    @property
    def closed(self) -> bool:
        """Whether the server is stopping."""
        return self._closed

    def wake(self) -> None:
        """End every wait, so that each waiting call checks its own state."""
        with self._changed:
            self._changed.notify_all()

    def close(self) -> None:
        """End every wait for good."""
        self._closed = True
        self.wake()

    def free(self) -> None:
        """Free every version that no request uses. For the end, when no more requests come."""
        self.reap()
        if self._live is not None and self._live.slot.close_if_idle():
            self._live = None
