"""Which of the images that callers ask about are kept.

A call leaves a note of an image that the model is unsure of, and is answered. One thread looks at the notes a few times
a second, and works a small part of its time, so that calls do not wait for it.

Shapes: N images of one call, C classes that the version ranks, d feature length.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accrete_kit.periodic import PeriodicTask
from accrete_model.vectors import Floats, highest
from accrete_server.access.tokens import Principal
from accrete_server.images import ImageReader
from accrete_server.inbox.config import InboxConfig
from accrete_server.inbox.pictures import kept
from accrete_server.metrics.collectors import InboxMetrics
from accrete_server.predict.batcher import Computed
from accrete_server.predict.pipeline import Content, Query
from accrete_server.store_connection import StoreConnection
from accrete_server.versions.slots import View
from accrete_storage.errors import StorageError
from accrete_storage.examples.fingerprint import fingerprint, near_ones
from accrete_storage.inbox import Item, Ranked, Why, new_id
from accrete_storage.store import Store

LINE = 32
"""Notes that may wait; more are dropped."""
LINE_BYTES = 32 * 1024 * 1024
"""Bytes of images as sent that may wait."""
RANKED = 5
"""Labels that are kept of an answer."""

_EVERY_S = 0.1
_IDLE = 19
"""How many times the processor time that an image took the thread waits: it takes a twentieth of a core at most."""
_MINUTE_S = 60.0
_REFRESH_S = 10.0
"""Seconds after which the store is asked anew what it keeps, which other servers change as well."""
_EXPIRE_S = 60.0
_DAY_MS = 86_400_000

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Note:
    """An image that the model may have been unsure of, as its call leaves it."""

    time_ms: int
    content: Content
    tensor: NDArray[Any]
    """As the model takes it."""
    feature: Floats
    """[d]."""
    probabilities: Floats
    """[C]."""
    view: View
    """That answered."""
    unknown: bool
    principal: str

    @property
    def size(self) -> int:
        """Bytes of the image as sent."""
        return len(self.content[1] if isinstance(self.content, tuple) else self.content)


class Sampler:
    """Keeps what is doubtful, new and within the limits. It also removes what has been kept for too long."""

    def __init__(
        self, config: InboxConfig, connection: StoreConnection, reader: ImageReader, metrics: InboxMetrics
    ) -> None:
        """Start no thread yet.

        Args:
            config: what is kept, and how much.
            connection: to the store.
            reader: of the server's images.
            metrics: what counts images.
        """
        self._config = config
        self._connection = connection
        self._reader = reader
        self._metrics = metrics
        # Where the greatest probability is this, the second is far enough below it, whatever it is.
        self._sure = (1 + config.margin) / 2
        self._lock = threading.Lock()
        self._line: list[Note] = []
        self._line_bytes = 0
        self._minute = _Minute(config)
        self._known = np.zeros(0, np.uint64)
        """Fingerprints of what is kept."""
        self._refreshed_s = self._expired_s = -np.inf
        self._task = PeriodicTask("inbox", self._work, every_s=_EVERY_S)

    def start(self) -> None:
        """Start to look at notes."""
        self._task.start()

    def stop(self) -> None:
        """Stop; notes that wait are dropped."""
        self._task.stop(timeout_s=5.0)

    def observe(
        self,
        query: Query[Any, Any],
        batch: NDArray[Any],
        computed: Computed,
        unknown: NDArray[np.bool_],
        caller: Principal,
    ) -> None:
        """Leave a note of each image that the model may have been unsure of; see `predict.pipeline.Observe`."""
        doubtful = self._doubtful(computed, unknown)
        if not len(doubtful):
            return
        principal = caller.name
        if not self._minute.has_room(principal, time.monotonic()):
            self._metrics.dropped("rate", len(doubtful))
            return
        free = LINE - len(self._line) if self._line_bytes < LINE_BYTES else 0
        if free < len(doubtful):
            self._metrics.dropped("busy", len(doubtful) - free)
        for index in doubtful[:free].tolist():
            note = Note(
                time_ms=time.time_ns() // 1_000_000,
                content=query.content(index),
                tensor=batch[index] if len(batch) == 1 else batch[index].copy(),  # a note must not keep the others
                feature=computed.features[index],
                probabilities=computed.probabilities[index],
                view=computed.view,
                unknown=bool(unknown[index]),
                principal=principal,
            )
            with self._lock:
                self._line.append(note)
                self._line_bytes += note.size

    def _doubtful(self, computed: Computed, unknown: NDArray[np.bool_]) -> NDArray[np.intp]:
        """Return which images may be doubtful: all that are, and few others."""
        config, probabilities = self._config, computed.probabilities
        doubtful: NDArray[np.bool_] = probabilities.max(axis=1) < self._sure
        if not config.margin:
            doubtful = np.zeros_like(doubtful)
        if config.unknown:
            doubtful |= unknown
        provisional = computed.view.classifier.provisional
        if config.provisional and provisional[-1]:
            doubtful |= provisional[probabilities.argmax(axis=1)]
        return np.flatnonzero(doubtful)

    def _work(self) -> None:
        with self._lock:
            notes, self._line, self._line_bytes = self._line, [], 0
        left = len(notes)
        try:
            store = self._connection.store()
            self._look_after(store)
            for note in notes:
                began = time.thread_time()
                self._decide(note, store, time.monotonic())
                left -= 1
                if self._task.wait((time.thread_time() - began) * _IDLE):
                    return
        except StorageError as error:  # an outage: nothing is kept, and nothing fails
            self._metrics.dropped("store", left)
            _log.debug("inbox.store_away", extra={"reason": str(error)})

    def _look_after(self, store: Store) -> None:
        """Remove what has been kept for too long, and read what is kept, both now and then."""
        now = time.monotonic()
        if now - self._expired_s > _EXPIRE_S:
            expired = store.inbox.expire(time.time_ns() // 1_000_000, int(self._config.days * _DAY_MS))
            self._expired_s = now
            if expired:
                _log.info("inbox.expired", extra={"images": expired})
        if now - self._refreshed_s > _REFRESH_S:
            self._metrics.open = store.inbox.count()
            if self._config.enabled:
                self._known = store.inbox.fingerprints()
            self._refreshed_s = now

    def _decide(self, note: Note, store: Store, now_s: float) -> None:
        """Keep an image, or count why not.

        Raises:
            StorageError: the store does not answer.
        """
        item = _item(note, self._config)
        if item is None:
            return
        if not self._minute.has_room(note.principal, now_s):
            self._metrics.dropped("rate")
            return
        print_ = fingerprint(note.tensor)
        if len(near_ones(self._known, print_)):
            self._metrics.dropped("duplicate")
            return
        try:
            file, media_type = kept(note.content, self._reader)
        except Exception:  # decoders raise whatever a damaged file leads them to; this one has been answered
            _log.warning("inbox.image_unusable", exc_info=True)
            self._metrics.dropped("image")
            return
        places = self._config.places_of(note.principal)
        if not store.inbox.add(replace(item, media_type=media_type), file, note.feature, print_, places):
            self._metrics.dropped("share")
            return
        self._known = np.append(self._known, print_)
        self._minute.count(note.principal, now_s)
        self._metrics.kept()


class _Minute:
    """What was kept in the minute that began with the first image of it. Calls read while the one thread counts."""

    def __init__(self, config: InboxConfig) -> None:
        self._config = config
        self._began_s = -np.inf
        self._total = 0
        self._by_principal: dict[str, int] = {}

    def has_room(self, principal: str, now_s: float) -> bool:
        """Return whether one more image of a principal may be kept."""
        if now_s - self._began_s >= _MINUTE_S:
            return True
        own, config = self._by_principal.get(principal, 0), self._config
        return self._total < config.per_minute and own < config.per_minute_of(principal)

    def count(self, principal: str, now_s: float) -> None:
        """Count an image that is kept."""
        if now_s - self._began_s >= _MINUTE_S:
            self._began_s, self._total, self._by_principal = now_s, 0, {}
        self._total += 1
        self._by_principal[principal] = self._by_principal.get(principal, 0) + 1


def _item(note: Note, config: InboxConfig) -> Item | None:
    """Return what is kept of an answer but for the image's type; None where the model was sure."""
    ranks, best = highest(note.probabilities[None], RANKED)  # [1, K] both
    classifier = note.view.classifier
    labels = tuple(
        Ranked(label=classifier.labels[rank], probability=probability, provisional=bool(classifier.provisional[rank]))
        for rank, probability in zip(ranks[0].tolist(), best[0].tolist(), strict=True)
    )
    margin = labels[0].probability - (labels[1].probability if len(labels) > 1 else 0.0)
    why: Why
    if config.unknown and note.unknown:
        why = "unknown"
    elif config.provisional and labels[0].provisional:
        why = "provisional"
    elif margin < config.margin:
        why = "margin"
    else:
        return None
    return Item(
        id=new_id(note.time_ms),
        time_ms=note.time_ms,
        version=note.view.version,
        revision=note.view.revision,
        labels=labels,
        unknown=note.unknown,
        why=why,
        doubt=1.0 if note.unknown else 1.0 - margin,
        principal=note.principal,
        media_type="",
        space=note.view.slot.loaded.feature_space,
    )
