"""Versions and groups in review on the wire."""

from __future__ import annotations

import math
from collections.abc import Mapping

from accrete.v1 import operation_pb2
from accrete_server.errors import InvalidInput
from accrete_server.teach import events
from accrete_storage.examples.review import REASONS, ReviewGroup, Selection
from accrete_storage.versions.record import VersionRecord

_STATES = {
    "ready": operation_pb2.VersionInfo.READY,
    "rejected": operation_pb2.VersionInfo.REJECTED,
    "retired": operation_pb2.VersionInfo.RETIRED,
}


def version_info(record: VersionRecord, *, active: bool, pinned: bool) -> operation_pb2.VersionInfo:
    """Return a version's record on the wire."""
    return operation_pb2.VersionInfo(
        version=record.version,
        state=_STATES.get(record.state, operation_pb2.VersionInfo.STATE_UNSPECIFIED),
        active=active,
        pinned=active and pinned,
        parent=record.parent,
        created_ms=record.created_ms,
        labels=record.classes,
        new_labels=record.new_labels,
        method=record.method,
        accuracy=events.accuracy(record.accuracy),
        step_seconds=record.step_seconds,
        digest=record.digest,
        reason=record.reason,
        gate=_gate(record.gate) if record.gate else None,
    )


def _gate(held: Mapping[str, float | None]) -> operation_pb2.Gate:
    values = {name: math.nan if value is None else value for name, value in held.items()}
    return operation_pb2.Gate(**values)


def review_group(group: ReviewGroup) -> operation_pb2.ReviewGroup:
    """Return a group of examples in review on the wire."""
    return operation_pb2.ReviewGroup(
        label=group.label,
        principal=group.principal,
        reason=group.reason,
        examples=group.examples,
        bytes=group.bytes,
        ids=group.ids,
    )


def selection(request: operation_pb2.ReleaseReviewRequest | operation_pb2.DropReviewRequest) -> Selection:
    """Return which of the examples in review a request is about.

    Raises:
        InvalidInput: the request names no label, principal or reason, or a reason that there is not.
    """
    given = {field.name: value for field, value in request.ListFields()}
    if not given:
        raise InvalidInput("selection: empty; a label, a principal or a reason is needed")
    if given.get("reason", REASONS[0]) not in REASONS:
        raise InvalidInput(f"reason: {given['reason']!r}; {', '.join(REASONS)} are allowed")
    return Selection(**given)
