"""The status of this server and of learning, and the classes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from importlib import metadata

from accrete.v1 import operation_pb2, types_pb2
from accrete_server.operate.membership import Membership
from accrete_server.operate.step_progress import StepProgress
from accrete_server.settings import ServerSettings
from accrete_server.store_connection import StoreConnection
from accrete_server.teach import events
from accrete_server.versions.slots import Slots, View
from accrete_storage.errors import StorageError
from accrete_storage.examples.memory import MemoryCount
from accrete_storage.examples.pending import PendingCount
from accrete_storage.store import Store

_TRIES, _RENAMED_S = 20, 0.05
"""Times that a list of classes is begun anew while one is renamed, and seconds between them."""


class Reporter:
    """Put together what this server and the store know."""

    def __init__(
        self,
        connection: StoreConnection,
        slots: Slots,
        settings: ServerSettings,
        progress: StepProgress,
        membership: Membership,
        front: str,
    ) -> None:
        self._connection = connection
        self._slots = slots
        self._settings = settings
        self._progress = progress
        self._membership = membership
        self._front = front

    def status(self) -> operation_pb2.GetStatusResponse:
        """Return the status, in which the part of a store that does not answer stays 0."""
        status = operation_pb2.GetStatusResponse(
            method=self._settings.method,
            release=metadata.version("accrete"),
            input_shape=self._settings.spec.shape,
            unknown_rate=self._settings.server.unknown_rate,
            node=self._settings.node,
            servers=self._membership.members,
            front=self._front,
            inbox_enabled=self._settings.inbox.enabled,
            data_dir=os.fsencode(self._settings.data_dir.resolve()).decode(errors="replace"),
        )
        self._add_live(status)
        try:
            store = self._connection.store()
            stored = _stored(store)
            self._add_settings(stored, store)
        except StorageError:  # the status says store_alive = false
            return status
        status.MergeFrom(stored)
        self._add_progress(status)
        return status

    def _add_settings(self, status: operation_pb2.GetStatusResponse, store: Store) -> None:
        """Add what the learner's settings make of what is stored."""
        classes = _learned_classes(store)
        if self._settings.exemplar_budget is not None:
            status.exemplar_budget = self._settings.exemplar_budget(classes)
        if self._settings.warnings is not None:
            status.warnings.extend(self._settings.warnings(classes))
        if self._settings.waits_for is not None and status.phase == types_pb2.WAITING:
            status.waits_for.extend(self._settings.waits_for(store))

    def _add_progress(self, status: operation_pb2.GetStatusResponse) -> None:
        reached = self._progress.reached()
        if reached is not None and status.phase == types_pb2.TRAINING and status.learner_alive:
            status.progress.CopyFrom(events.progress(reached.body))
            status.stage_left_ms = reached.left_ms

    def classes(self) -> list[operation_pb2.ClassInfo]:
        """Return every label of the live version, then provisional ones, then those that are only pending.

        Raises:
            StorageError: the store does not answer.
        """
        store = self._connection.store()
        for _ in range(_TRIES):
            view, renamed = self._slots.live, store.registry.state().renamed
            pending, kept = store.pending.counts(), store.memory.counts()
            since = store.registry.version(view.version).since if view is not None else {}
            caught_up = view is None or view.revision >= renamed
            if caught_up and store.registry.state().renamed == renamed:
                break
            self._slots.wait_change(view, _RENAMED_S)  # else a class might be listed under two labels, or none
        return [
            _class_info(label, view, pending.get(label), kept.get(label), since)
            for label in _in_order(view, pending, kept)
        ]

    def _add_live(self, status: operation_pb2.GetStatusResponse) -> None:
        view = self._slots.live
        if view is not None:
            status.version = view.version
            status.provisional_classes = int(view.classifier.provisional.sum())
            status.classes = len(view.classifier.labels) - status.provisional_classes
            status.engine = view.slot.loaded.engine_name
            status.false_alarm_rate = view.slot.loaded.unknown_below(self._settings.server.unknown_rate).rate


def quarantine(store: Store) -> list[operation_pb2.HeldLabel]:
    """Return the labels in quarantine, by name.

    Raises:
        StorageError: the store does not answer.
    """
    pending = store.pending.counts()
    return [
        operation_pb2.HeldLabel(
            label=label,
            pending=pending[label].examples if label in pending else 0,
            attempts=entry.attempts,
            reason=entry.reason,
            awaiting_approval=entry.awaiting,
        )
        for label, entry in sorted(store.quarantine.entries().items())
    ]


def _stored(store: Store) -> operation_pb2.GetStatusResponse:
    """Return the part of the status that comes from the store."""
    status = operation_pb2.GetStatusResponse(store_alive=True)
    state = store.registry.state()
    status.active_version, status.pinned = state.version, state.pinned
    status.phase, status.paused = events.phase(store.control.phase()), store.control.paused()
    status.phase_reason = store.control.phase_reason()
    status.learner_alive = store.lease_holder() is not None
    total = store.pending.total()
    status.pending = total.examples
    if total.oldest_ms is not None:
        status.oldest_pending_ms = max(0, int(time.time() * 1000) - total.oldest_ms)
    kept = store.memory.total()
    status.exemplars, status.exemplar_bytes, status.holdout = kept.exemplars, kept.exemplar_bytes, kept.holdout
    status.held_labels.extend(sorted(store.quarantine.entries()))
    status.in_review = store.review.total()
    status.inbox_open = store.inbox.count()
    status.deep = store.deep.text()
    info = store.info()
    status.store = f"{info.engine} {info.version}"
    return status


def _learned_classes(store: Store) -> int:
    """Return how many classes the memory is for.

    These are the newest version's without those forgotten since; the newest version need not be the live one.
    """
    newest = store.registry.latest_ready()
    return 0 if newest is None else len(newest.kept_labels(store.registry.forgotten()))


def _in_order(view: View | None, pending: Iterable[str], kept: Iterable[str]) -> list[str]:
    """Return the head's labels in their order, then the provisional ones, then the rest sorted."""
    learned = view.classes if view is not None else ()
    served = view.classifier.labels if view is not None else ()
    return list(dict.fromkeys([*learned, *served, *sorted({*pending, *kept})]))


def _class_info(
    label: str, view: View | None, pending: PendingCount | None, kept: MemoryCount | None, since: Mapping[str, int]
) -> operation_pb2.ClassInfo:
    return operation_pb2.ClassInfo(
        label=label,
        state=_state(label, view, is_pending=pending is not None),
        pending=0 if pending is None else pending.examples,
        exemplars=0 if kept is None else kept.exemplars,
        holdout=0 if kept is None else kept.holdout,
        since_version=since.get(label, 0),
    )


def _state(label: str, view: View | None, *, is_pending: bool) -> types_pb2.ClassState.ValueType:
    if view is not None and label in view.classifier.labels:
        is_provisional = view.classifier.provisional[view.classifier.labels.index(label)]
        return types_pb2.PROVISIONAL if is_provisional else types_pb2.LEARNED
    if not is_pending and view is not None and label in view.masked:
        return types_pb2.FORGOTTEN
    return types_pb2.PENDING
