"""Wire types to ours and back: the one place, besides the services, that knows both."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from accrete.v1 import operation_pb2, teaching_pb2, types_pb2
from accrete_server.errors import InvalidInput
from accrete_server.images import BadImage, ImageReader
from accrete_storage.events import StoredEvent
from accrete_storage.examples.review import ReviewGroup, Selection
from accrete_storage.versions.record import VersionRecord

STATES = {
    "ready": operation_pb2.VersionInfo.READY,
    "rejected": operation_pb2.VersionInfo.REJECTED,
    "retired": operation_pb2.VersionInfo.RETIRED,
}


def read_image(image: types_pb2.Image, reader: ImageReader) -> NDArray[Any]:
    """The model's input from an image on the wire. Raises BadImage."""
    content = image.WhichOneof("content")
    if content == "encoded":
        return reader.encoded(image.encoded)
    if content != "tensor":
        raise BadImage("empty: neither encoded bytes nor a tensor")
    tensor = image.tensor
    if tensor.dtype == types_pb2.Tensor.UINT8:
        return reader.pixels(tensor.shape, tensor.data)
    if tensor.dtype == types_pb2.Tensor.FLOAT32:
        return reader.vector(tensor.shape, tensor.data)
    raise BadImage(f"tensor of unknown dtype {tensor.dtype}; UINT8 and FLOAT32 are allowed")


def phase(name: str) -> types_pb2.Phase.ValueType:
    """The wire's phase of the store's; unspecified for one that this release does not know."""
    known = types_pb2.Phase.DESCRIPTOR.values_by_name.get(name.upper())
    return types_pb2.PHASE_UNSPECIFIED if known is None else types_pb2.Phase.ValueType(known.number)


def accuracy(values: Mapping[str, Any]) -> teaching_pb2.Accuracy:
    """Accuracy on the wire, where NaN stands for what could not be measured."""

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
    )


def version_info(record: VersionRecord, *, active: bool, pinned: bool) -> operation_pb2.VersionInfo:
    """A version's record on the wire."""
    return operation_pb2.VersionInfo(
        version=record.version,
        state=STATES.get(record.state, operation_pb2.VersionInfo.STATE_UNSPECIFIED),
        active=active,
        pinned=active and pinned,
        parent=record.parent,
        created_ms=record.created_ms,
        labels=record.labels,
        new_labels=record.new_labels,
        method=record.method,
        accuracy=accuracy(record.accuracy),
        step_seconds=record.step_seconds,
        digest=record.digest,
        reason=record.reason,
    )


def review_group(group: ReviewGroup) -> operation_pb2.ReviewGroup:
    """A group of examples in review on the wire."""
    return operation_pb2.ReviewGroup(
        label=group.label,
        principal=group.principal,
        reason=group.reason,
        examples=group.examples,
        bytes=group.bytes,
        ids=group.ids,
    )


def selection(request: operation_pb2.ReleaseReviewRequest | operation_pb2.DropReviewRequest) -> Selection:
    """What is meant of all that is in review. Raises InvalidInput when nothing says so."""
    given = {field.name: value for field, value in request.ListFields()}
    if not given:
        raise InvalidInput("selection: empty; a label, a principal or a reason is needed")
    return Selection(**given)


def event(stored: StoredEvent) -> teaching_pb2.Event:
    """A stored event on the wire; one of a kind that this release does not know keeps its id and time alone."""
    wire = teaching_pb2.Event(id=stored.id, time_ms=stored.time_ms)
    fill = _KINDS.get(stored.kind)
    if fill is not None:
        fill(wire, stored.body)
    return wire


def _phase(wire: teaching_pb2.Event, body: Mapping[str, Any]) -> None:
    wire.phase.CopyFrom(teaching_pb2.PhaseChanged(phase=phase(body["phase"]), reason=body.get("reason", "")))


def _progress(wire: teaching_pb2.Event, body: Mapping[str, Any]) -> None:
    loss = body.get("loss")
    wire.progress.CopyFrom(
        teaching_pb2.Progress(
            version=body["version"],
            stage=body["stage"],
            done=body["done"],
            total=body["total"],
            loss=math.nan if loss is None else loss,
        )
    )


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


def _forgotten(wire: teaching_pb2.Event, body: Mapping[str, Any]) -> None:
    wire.forgotten.CopyFrom(teaching_pb2.ClassForgotten(label=body["label"]))


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
    "forgotten": _forgotten,
    "provisional": _provisional,
    "reviewed": _reviewed,
}
