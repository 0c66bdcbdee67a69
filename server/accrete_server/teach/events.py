"""The learner's events, phases and accuracies on the wire."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from accrete.v1 import teaching_pb2, types_pb2
from accrete_storage.events import StoredEvent


def phase(name: str) -> types_pb2.Phase.ValueType:
    """Return the wire's phase for the store's, or unspecified for one that this release does not know."""
    known = types_pb2.Phase.DESCRIPTOR.values_by_name.get(name.upper())
    return types_pb2.PHASE_UNSPECIFIED if known is None else types_pb2.Phase.ValueType(known.number)


def accuracy(values: Mapping[str, Any]) -> teaching_pb2.Accuracy:
    """Return an accuracy on the wire, where NaN stands for what could not be measured."""

    def number(name: str) -> float:
        value = values.get(name)
        return math.nan if value is None else float(value)

    return teaching_pb2.Accuracy(
        all=number("all"),
        old=number("old"),
        new=number("new"),
        average_incremental=number("average_incremental"),
        forgetting=number("forgetting"),
        examples=int(values.get("examples") or 0),
        new_examples=int(values.get("new_examples") or 0),
    )


def event(stored: StoredEvent) -> teaching_pb2.Event:
    """Return a stored event on the wire.

    An event of a kind that this release does not know has its id and time alone.
    """
    wire = teaching_pb2.Event(id=stored.id, time_ms=stored.time_ms)
    fill = _KINDS.get(stored.kind)
    if fill is not None:
        fill(wire, stored.body)
    return wire


def _phase(wire: teaching_pb2.Event, body: Mapping[str, Any]) -> None:
    wire.phase.CopyFrom(teaching_pb2.PhaseChanged(phase=phase(body["phase"]), reason=body.get("reason", "")))


def progress(body: Mapping[str, Any]) -> teaching_pb2.Progress:
    """Return on the wire how far a step is."""
    loss = body.get("loss")
    return teaching_pb2.Progress(
        version=body["version"],
        stage=body["stage"],
        done=body["done"],
        total=body["total"],
        loss=math.nan if loss is None else loss,
    )


def _progress(wire: teaching_pb2.Event, body: Mapping[str, Any]) -> None:
    wire.progress.CopyFrom(progress(body))


def _committed(wire: teaching_pb2.Event, body: Mapping[str, Any]) -> None:
    wire.committed.CopyFrom(
        teaching_pb2.VersionCommitted(
            version=body["version"],
            new_labels=body["new_labels"],
            accuracy=accuracy(body["accuracy"]),
            step_seconds=body["step_seconds"],
        )
    )


def _activated(wire: teaching_pb2.Event, body: Mapping[str, Any]) -> None:
    wire.activated.CopyFrom(teaching_pb2.VersionActivated(version=body["version"], pinned=body["pinned"]))


def _rejected(wire: teaching_pb2.Event, body: Mapping[str, Any]) -> None:
    wire.rejected.CopyFrom(
        teaching_pb2.StepRejected(
            version=body["version"], reason=body["reason"], accuracy=accuracy(body.get("accuracy") or {})
        )
    )


def _failed(wire: teaching_pb2.Event, body: Mapping[str, Any]) -> None:
    wire.failed.CopyFrom(teaching_pb2.StepFailed(reason=body["reason"], attempt=body.get("attempt", 1)))


def _discarded(wire: teaching_pb2.Event, body: Mapping[str, Any]) -> None:
    wire.discarded.CopyFrom(teaching_pb2.StepDiscarded(reason=body["reason"]))


def _forgotten(wire: teaching_pb2.Event, body: Mapping[str, Any]) -> None:
    wire.forgotten.CopyFrom(teaching_pb2.ClassForgotten(label=body["label"]))


def _renamed(wire: teaching_pb2.Event, body: Mapping[str, Any]) -> None:
    wire.renamed.CopyFrom(teaching_pb2.ClassRenamed(**body))


def _provisional(wire: teaching_pb2.Event, body: Mapping[str, Any]) -> None:
    wire.provisional.CopyFrom(teaching_pb2.ClassProvisional(label=body["label"], examples=body["examples"]))


def _reviewed(wire: teaching_pb2.Event, body: Mapping[str, Any]) -> None:
    wire.reviewed.CopyFrom(teaching_pb2.ExamplesReviewed(**body))


_KINDS = {
    "phase": _phase,
    "progress": _progress,
    "committed": _committed,
    "activated": _activated,
    "rejected": _rejected,
    "failed": _failed,
    "discarded": _discarded,
    "forgotten": _forgotten,
    "renamed": _renamed,
    "provisional": _provisional,
    "reviewed": _reviewed,
}
