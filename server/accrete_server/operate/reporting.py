"""What Operation tells: the status of this server and of learning, and the classes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata

from accrete.v1 import operation_pb2, types_pb2
from accrete_model.input_spec import InputSpec
from accrete_server import convert
from accrete_server.store_connection import StoreLink
from accrete_server.versions.slots import Slots, View
from accrete_storage.errors import StorageError
from accrete_storage.examples.memory import MemoryCount
from accrete_storage.examples.pending import PendingCount
from accrete_storage.store import Store


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What the server was started with and only tells on."""

    spec: InputSpec
    method: str
    exemplar_budget: Callable[[int], int] | None
    """Exemplars allowed for a number of classes; None: not known here."""
    unknown_rate: float
    """Share of false alarms at which images are called unknown; 0: off."""


class Reporter:
    """Puts together what this server and the store know."""

    def __init__(self, link: StoreLink, slots: Slots, setting: Setting) -> None:
        self._link = link
        self._slots = slots
        self._setting = setting

    def status(self) -> operation_pb2.GetStatusResponse:
        """The status; without the store its part stays 0."""
        answer = operation_pb2.GetStatusResponse(
            method=self._setting.method,
            release=metadata.version("accrete"),
            input_shape=self._setting.spec.shape,
            unknown_rate=self._setting.unknown_rate,
        )
        self._add_live(answer)
        try:
            store = self._link.get()
            stored = _stored(store)
            if self._setting.exemplar_budget is not None:
                stored.exemplar_budget = self._setting.exemplar_budget(_learned_classes(store))
        except StorageError:  # told as store_alive = false
            return answer
        answer.MergeFrom(stored)
        return answer

    def classes(self) -> list[operation_pb2.ClassInfo]:
        """Every label of the live version, then provisional ones, then those that are only pending.

        Raises StorageError.
        """
        store = self._link.get()
        view = self._slots.live
        pending, kept = store.pending.counts(), store.memory.counts()
        since = store.registry.version(view.version).since if view is not None else {}
        return [
            _class_info(label, view, pending.get(label), kept.get(label), since)
            for label in _in_order(view, pending, kept)
        ]

    def _add_live(self, answer: operation_pb2.GetStatusResponse) -> None:
        view = self._slots.live
        if view is not None:
            answer.version = view.version
            answer.provisional_classes = int(view.answers.provisional.sum())
            answer.classes = len(view.answers.labels) - answer.provisional_classes
            answer.engine = view.slot.loaded.engine_name
            answer.false_alarm_rate = view.slot.loaded.unknown_below(self._setting.unknown_rate).rate


def held(store: Store) -> list[operation_pb2.HeldLabel]:
    """Labels that are set aside, by name. Raises StorageError."""
    pending = store.pending.counts()
    return [
        operation_pb2.HeldLabel(
            label=label,
            pending=pending[label].examples if label in pending else 0,
            attempts=hold.attempts,
            reason=hold.reason,
            awaiting_approval=hold.awaiting,
        )
        for label, hold in sorted(store.holds().items())
    ]


def _stored(store: Store) -> operation_pb2.GetStatusResponse:
    """The part of the status that comes from the store."""
    answer = operation_pb2.GetStatusResponse(store_alive=True)
    state = store.registry.state()
    answer.active_version, answer.pinned = state.version, state.pinned
    answer.phase, answer.paused = convert.phase(store.control.phase()), store.control.paused()
    answer.phase_reason = store.control.phase_reason()
    answer.learner_alive = store.lease_holder() is not None
    total = store.pending.total()
    answer.pending = total.examples
    if total.oldest_ms is not None:
        answer.oldest_pending_ms = max(0, int(time.time() * 1000) - total.oldest_ms)
    kept = store.memory.counts().values()
    answer.exemplars = sum(count.exemplars for count in kept)
    answer.holdout = sum(count.holdout for count in kept)
    answer.exemplar_bytes = store.memory.exemplar_bytes()
    answer.held_labels.extend(sorted(store.holds()))
    answer.in_review = store.review.total()
    info = store.info()
    answer.store = f"{info.engine} {info.version}"
    return answer


def _learned_classes(store: Store) -> int:
    """Classes that the memory is for: the newest version's, which need not be live, without those forgotten since."""
    newest = store.registry.latest_ready()
    return 0 if newest is None else len(newest.kept_labels(store.registry.forgotten()))


def _in_order(view: View | None, pending: Iterable[str], kept: Iterable[str]) -> list[str]:
    """Labels in the order in which they came, as far as known: the head's, then the provisional, the rest sorted."""
    learned = view.slot.loaded.labels if view is not None else ()
    answered = view.answers.labels if view is not None else ()
    return list(dict.fromkeys([*learned, *answered, *sorted({*pending, *kept})]))


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
    if view is not None and label in view.answers.labels:
        is_provisional = view.answers.provisional[view.answers.labels.index(label)]
        return types_pb2.PROVISIONAL if is_provisional else types_pb2.LEARNED
    if not is_pending and view is not None and label in view.masked:
        return types_pb2.FORGOTTEN
    return types_pb2.PENDING
