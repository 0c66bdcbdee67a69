"""Decide which version is live, load it beside the live one, and swap."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from accrete_kit.failpoints import around
from accrete_kit.stopwatch import Stopwatch
from accrete_model.loaded_version import LoadedVersion
from accrete_model.scoring import Classifier, PrototypeSet
from accrete_server.errors import BrokenCandidate
from accrete_server.metrics.collectors import ModelMetrics
from accrete_server.versions.last_served import LastServed, read_last_served, write_last_served
from accrete_server.versions.load_failures import LoadFailures
from accrete_server.versions.loading import FETCH, Loader
from accrete_server.versions.slots import Slot, Slots, View
from accrete_storage.errors import NotFound
from accrete_storage.examples.ids import position_key
from accrete_storage.store import Store
from accrete_storage.versions.prototypes import StoredPrototypes
from accrete_storage.versions.record import VersionRecord

REMEMBERED = 3
"""Versions that were served last and are tried at a start without the store."""

ROOM_S = 30.0
"""How long a candidate waits for requests that still hold a retired version in memory."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Known:
    """A version's record and the labels that are masked in it, as of one revision of the store."""

    record: VersionRecord
    masked: frozenset[str]
    revision: int


class Swapper:
    """Do what the store says. All methods are for one thread, and not a serving one."""

    def __init__(
        self, slots: Slots, loader: Loader, load_failures: LoadFailures, metrics: ModelMetrics, data_dir: Path
    ) -> None:
        self._slots = slots
        self._loader = loader
        self._metrics = metrics
        self._data_dir = data_dir
        self._load_failures = load_failures
        self._last_served = read_last_served(data_dir)
        self._prototypes = StoredPrototypes()
        self._known: _Known | None = None

    def follow(self, store: Store) -> None:
        """Make the store's active version live, with its masks and prototypes.

        Raises:
            StorageError: the store does not answer.
        """
        state = store.registry.state()
        if not state.version:
            return
        if self._slots.version != state.version:
            self._refresh(store)  # a version may come from a bucket, which takes a while, and forgetting does not wait
            self._go_to(store, state.version)
        self._refresh(store)

    def serve_last_served(self) -> None:
        """Load what was live last, or before that where it is broken, unless a version is live.

        For a server without the store.
        """
        if self._slots.live is not None:
            return
        for served in self._last_served:
            loaded = self._try(served.version, served.digest)
            if loaded is not None:
                masked = frozenset(served.masked)
                self._put(
                    View(
                        slot=Slot(loaded),
                        classifier=_classifier(loaded, masked, StoredPrototypes(), served.labels),
                        masked=masked,
                        labels=served.labels,
                        revision=served.revision,
                    )
                )
                return

    def tidy(self) -> None:
        """Free the versions that are no longer used, and count those that are."""
        self._slots.reap()
        self._metrics.slots.set(self._slots.resident)

    def _go_to(self, store: Store, version: int) -> None:
        """Load the active version, or the newest good one if that is broken and nothing is live yet."""
        candidates = [store.registry.version(version)]
        if self._slots.live is None:
            candidates += _others_ready(store.registry.versions(), version)
        for record in candidates:
            loaded = self._try(record.version, record.digest, store)
            if loaded is not None:
                self._put_if_wanted(store, record, loaded, asked=version)
                return

    def _put_if_wanted(self, store: Store, record: VersionRecord, loaded: LoadedVersion, *, asked: int) -> None:
        """Make a version live, unless an older one, or any by hand, was made the active one in place of `asked`.

        One that a newer version followed meanwhile goes live: where steps follow each other faster than versions load,
        none ever would.
        """
        try:
            _, view = self._view(store, Slot(loaded), record.version)
            now = store.registry.state()  # the last look before it goes live
        except BaseException:
            loaded.close()
            raise
        if now.version != asked and (now.pinned or now.version < record.version):
            _log.info("version.passed_over", extra={"version": record.version, "active": now.version})
            loaded.close()
            return
        self._put(view)

    def _try(self, version: int, digest: str, store: Store | None = None) -> LoadedVersion | None:
        """Return the loaded version, or None when it is broken or there is no room for it now."""
        if self._load_failures.is_waiting(version, digest):
            return None
        if not self._slots.make_room(ROOM_S):
            _log.warning("version.no_room", extra={"version": version, "resident": self._slots.resident})
            return None
        try:
            loaded = self._loader.load(version, digest)
        except BrokenCandidate as error:
            reason = f"{error.stage}: {error.reason}"
            attempts = self._load_failures.record(version, digest, reason, passing=error.stage == FETCH)
            if store is not None and attempts == 1:  # one event; the log and the metric have every try
                store.events.append("failed", {"reason": str(error), "attempt": attempts})
            return None
        self._load_failures.forget(version)
        return loaded

    def _refresh(self, store: Store) -> None:
        """Bring labels, masks, prototypes and the record of the live version up to date."""
        live = self._slots.live
        if live is None:
            return
        try:
            record, view = self._view(store, live.slot, live.version)
        except NotFound:  # served from files of another store's time; it says nothing about this version
            return
        if _differ(view, live):
            self._slots.put(view)
            self._show(view)
        self._write_last_served(store, record, view)

    def _view(self, store: Store, slot: Slot, number: int) -> tuple[VersionRecord, View]:
        """Return a version's record and view, both of one revision of the store.

        Raises:
            NotFound: it has no record.
        """
        revision = store.registry.state().revision
        while True:
            known = self._known
            # A record is a megabyte for ten thousand classes, and what is used of it changes with the revision alone.
            if known is None or (known.record.version, known.revision) != (number, revision):
                record = store.registry.version(number)
                masked = frozenset(record.classes).difference(record.kept_labels(store.registry.forgotten()))
                known = _Known(record=record, masked=masked, revision=revision)
            prototypes = store.prototypes.all(number)
            before, revision = revision, store.registry.state().revision
            if before == revision:  # else labels of before and after a renaming might be mixed
                break
        self._known = known
        record, masked = known.record, known.masked
        # A record of another store's time says nothing about these rows.
        labels = tuple(record.labels) if len(record.labels) == len(slot.loaded.labels) else ()
        live = self._slots.live
        same = live is not None and live.slot is slot and live.masked == masked and live.labels == labels
        if live is not None and same and _same(prototypes, self._prototypes):
            classifier = live.classifier
        else:
            classifier = _classifier(slot.loaded, masked, prototypes, labels)
            self._prototypes = prototypes
        view = View(
            slot=slot, classifier=classifier, masked=masked, labels=labels, revision=revision, learned=record.learned
        )
        return record, view

    def _put(self, view: View) -> None:
        before = self._slots.version
        stopwatch = Stopwatch()
        with stopwatch.stage("swap"), around("publish"):
            self._slots.put(view)
        self._loader.use(view.version)
        self._metrics.swap_seconds.labels("swap").observe(stopwatch.seconds["swap"])
        self._metrics.swaps.inc()
        self._show(view)
        _log.info(
            "version.live",
            extra={"version": view.version, "before": before, "classes": len(view.classifier.labels)}
            | {"engine": view.slot.loaded.engine_name},
        )

    def _show(self, view: View) -> None:
        provisional = int(view.classifier.provisional.sum())
        self._metrics.live_version.set(view.version)
        self._metrics.classes.set(len(view.classifier.labels) - provisional)
        self._metrics.provisional.set(provisional)
        newest_ms = max((position_key(position)[0] for position in view.learned.values()), default=0)
        self._metrics.newest_learned.set(newest_ms / 1000)

    def _write_last_served(self, store: Store, record: VersionRecord, view: View) -> None:
        newest = LastServed(
            version=record.version,
            digest=record.digest,
            masked=tuple(sorted(view.masked)),
            revision=view.revision,
            labels=view.labels,
        )
        if self._last_served[:1] == (newest,):
            return
        before = [served for served in self._last_served if served.version != newest.version][: REMEMBERED - 1]
        last = (newest, *(now for served in before if (now := _at_revision(store, served, view.revision))))
        try:
            with around("remember"):
                write_last_served(self._data_dir, last)
            self._last_served = last
        except OSError as error:  # a full disk must not stop serving; it is tried again at the next look
            _log.error("last_served.not_written", extra={"reason": str(error)})


def _at_revision(store: Store, served: LastServed, revision: int) -> LastServed | None:
    """Return what was served with the labels and masks of now, or None when it may not serve any more."""
    if served.revision == revision:
        return served
    try:
        record = store.registry.version(served.version)
    except NotFound:
        return None
    if record.state != "ready" or record.digest != served.digest:
        return None
    masked = frozenset(record.classes).difference(record.kept_labels(store.registry.forgotten()))
    return replace(served, masked=tuple(sorted(masked)), labels=tuple(record.labels), revision=revision)


def _others_ready(records: Iterable[VersionRecord], version: int) -> list[VersionRecord]:
    """Return the versions that may serve besides `version`, newest first."""
    ready = [record for record in records if record.state == "ready" and record.version != version]
    return sorted(ready, key=lambda record: -record.version)


def _classifier(
    loaded: LoadedVersion, masked: frozenset[str], prototypes: StoredPrototypes, labels: tuple[str, ...]
) -> Classifier:
    """Return the rule with labels, masks and prototypes, or without prototypes when they do not fit the version."""
    rows = labels or None
    if not prototypes.by_label:
        return loaded.classifier(masked, labels=rows)
    try:
        vectors = np.stack([prototype.vector for prototype in prototypes.by_label.values()])
        found = PrototypeSet(labels=tuple(prototypes.by_label), vectors=vectors, margin=prototypes.margin)
        return loaded.classifier(masked, found, rows)
    except ValueError as error:
        _log.error("prototypes.unusable", extra={"version": loaded.version, "reason": str(error)})
        return loaded.classifier(masked, labels=rows)


def _same(some: StoredPrototypes, others: StoredPrototypes) -> bool:
    if list(some.by_label) != list(others.by_label) or some.margin != others.margin:
        return False
    return all(
        np.array_equal(prototype.vector, others.by_label[label].vector) for label, prototype in some.by_label.items()
    )


def _differ(view: View, live: View) -> bool:
    return view.classifier is not live.classifier or view.revision != live.revision or view.learned != live.learned
