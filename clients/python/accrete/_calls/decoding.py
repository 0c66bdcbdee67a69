"""From the wire's messages to the values that callers see. No other module reads a message's fields."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, TypeVar, cast

import grpc
import numpy as np

from .. import _events as events
from .. import _results as results
from .._errors import IncompatibleServer
from ..v1 import curation_pb2, inbox_pb2, operation_pb2, prediction_pb2, teaching_pb2, types_pb2

T = TypeVar("T")

_OUTCOMES: dict[int, results.Outcome] = {
    teaching_pb2.ExampleResult.STORED: "stored",
    teaching_pb2.ExampleResult.DUPLICATE: "duplicate",
    teaching_pb2.ExampleResult.REFUSED: "refused",
}
_INBOX_OUTCOMES: dict[int, results.Outcome] = {
    inbox_pb2.InboxResult.STORED: "stored",
    inbox_pb2.InboxResult.DUPLICATE: "duplicate",
    inbox_pb2.InboxResult.REFUSED: "refused",
}


def predictions(response: prediction_pb2.PredictResponse, *, features: bool) -> list[results.Prediction]:
    timings = results.Timings(
        decode_ms=response.timings.decode_ms,
        queue_ms=response.timings.queue_ms,
        compute_ms=response.timings.compute_ms,
        total_ms=response.timings.total_ms,
    )
    return [
        results.Prediction(
            ranked=_ranked(prediction.labels),
            version=response.version,
            timings=timings,
            unknown=prediction.unknown,
            false_alarm_rate=response.false_alarm_rate,
            features=np.array(prediction.features, dtype=np.float32) if features else None,
        )
        for prediction in response.predictions
    ]


def _ranked(labels: Iterable[prediction_pb2.RankedLabel]) -> tuple[results.RankedLabel, ...]:
    return tuple(
        results.RankedLabel(label=one.label, probability=one.probability, provisional=one.provisional) for one in labels
    )


def outcome(result: teaching_pb2.ExampleResult) -> results.Outcome | None:
    """Return the outcome; None for one that this client does not know."""
    return _OUTCOMES.get(result.outcome)


def status(response: operation_pb2.GetStatusResponse) -> results.Status:
    fields = {name: getattr(response, name) for name in _plain_fields(response, results.Status)}
    return results.Status(
        **fields,
        phase=_phase(response.phase),
        input_shape=tuple(response.input_shape),
        held_labels=tuple(response.held_labels),
        waits_for=tuple(response.waits_for),
        warnings=tuple(response.warnings),
        roles=tuple(response.roles),
        progress=_progress(response) if response.HasField("progress") else None,
    )


def _progress(response: operation_pb2.GetStatusResponse) -> results.StepProgress:
    one = response.progress
    return results.StepProgress(
        version=one.version,
        stage=one.stage,
        done=one.done,
        total=one.total,
        loss=_measured(one.loss),
        left_s=response.stage_left_ms / 1000 or None,
    )


def class_info(one: operation_pb2.ClassInfo) -> results.ClassInfo:
    state = _name(types_pb2.ClassState, one.state)
    fields = {name: getattr(one, name) for name in _plain_fields(one, results.ClassInfo)}
    return results.ClassInfo(**fields, state=cast(results.ClassState, state))


def held_label(one: operation_pb2.HeldLabel) -> results.HeldLabel:
    return results.HeldLabel(
        label=one.label,
        pending=one.pending,
        attempts=one.attempts,
        reason=one.reason,
        awaiting_approval=one.awaiting_approval,
    )


def review_group(one: operation_pb2.ReviewGroup) -> results.ReviewGroup:
    return results.ReviewGroup(
        label=one.label,
        principal=one.principal,
        reason=one.reason,
        examples=one.examples,
        bytes=one.bytes,
        ids=tuple(one.ids),
    )


def inbox_page(response: inbox_pb2.ListInboxResponse) -> results.InboxPage:
    return results.InboxPage(
        items=tuple(map(_inbox_item, response.items)),
        next_page_token=response.next_page_token,
        open=response.open,
    )


def _inbox_item(one: inbox_pb2.InboxItem) -> results.InboxItem:
    fields = {name: getattr(one, name) for name in _plain_fields(one, results.InboxItem)}
    state = cast(results.InboxState, _name(inbox_pb2.InboxItem.State, one.state))
    return results.InboxItem(**fields, state=state, labels=_ranked(one.labels))


def inbox_result(one: inbox_pb2.InboxResult) -> results.InboxResult:
    became = _INBOX_OUTCOMES.get(one.outcome)
    if became is None:
        raise IncompatibleServer(f"an outcome {one.outcome} that this client does not know")
    return results.InboxResult(
        id=one.id, outcome=became, example_id=one.example_id, reason=one.reason, code=code_name(one.code)
    )


def code_name(number: int) -> str:
    """Return the name of a gRPC status code; "" for none."""
    return next((code.name for code in grpc.StatusCode if number and code.value[0] == number), "")


def example_page(response: curation_pb2.ListExamplesResponse) -> results.ExamplePage:
    return results.ExamplePage(
        examples=tuple(map(_stored_example, response.examples)),
        next_page_token=response.next_page_token,
        total=response.total,
    )


def _stored_example(one: curation_pb2.StoredExample) -> results.StoredExample:
    fields = {name: getattr(one, name) for name in _plain_fields(one, results.StoredExample)}
    return results.StoredExample(
        **fields,
        kind=cast(results.ExampleKind, _name(curation_pb2.StoredExample.Kind, one.kind)),
        metadata=dict(one.metadata),
        reasons=tuple(one.reasons),
    )


def version_evaluation(response: curation_pb2.GetEvaluationResponse) -> results.VersionEvaluation:
    return results.VersionEvaluation(
        version=response.version,
        classes=tuple(_made(results.ClassEvaluation, one) for one in response.classes),
        confusions=tuple(_made(results.ConfusedClasses, one) for one in response.confusions),
        mistakes=tuple(_made(results.MisjudgedExample, one) for one in response.mistakes),
        examples=response.examples,
    )


def version_comparison(response: curation_pb2.CompareVersionsResponse) -> results.VersionComparison:
    return results.VersionComparison(
        classes=tuple(_made(results.ClassChange, one) for one in response.classes),
        gained=tuple(_made(results.DifferentlyJudged, one) for one in response.gained),
        lost=tuple(_made(results.DifferentlyJudged, one) for one in response.lost),
        examples=response.examples,
    )


def _made(kind: type[T], message: Any) -> T:
    """Return a value whose fields are all the same in the message."""
    return kind(**{name: getattr(message, name) for name in _plain_fields(message, kind)})


def server_info(one: operation_pb2.ServerInfo) -> results.ServerInfo:
    fields = {name: getattr(one, name) for name in _plain_fields(one, results.ServerInfo)}
    state = _name(operation_pb2.ServerInfo.State, one.state)
    return results.ServerInfo(**fields, state=cast(results.ServerState, state))


def version_info(one: operation_pb2.VersionInfo) -> results.VersionInfo:
    fields = {name: getattr(one, name) for name in _plain_fields(one, results.VersionInfo)}
    return results.VersionInfo(
        **fields,
        state=cast(results.VersionState, _name(operation_pb2.VersionInfo.State, one.state)),
        labels=tuple(one.labels),
        new_labels=tuple(one.new_labels),
        accuracy=accuracy(one.accuracy),
        gate=_gate(one.gate) if one.HasField("gate") else None,
    )


def _gate(one: operation_pb2.Gate) -> results.Gate:
    return results.Gate(
        old_before=_measured(one.old_before),
        old_after=_measured(one.old_after),
        max_old_drop=one.max_old_drop,
        min_new=one.min_new,
    )


def accuracy(one: teaching_pb2.Accuracy) -> results.Accuracy:
    return results.Accuracy(
        all=_measured(one.all),
        old=_measured(one.old),
        new=_measured(one.new),
        average_incremental=_measured(one.average_incremental),
        forgetting=_measured(one.forgetting),
        examples=one.examples,
        new_examples=one.new_examples,
    )


def event(message: teaching_pb2.Event) -> events.Event:
    """Return an event. Its names are the wire's; only the types of some values differ."""
    kind = message.WhichOneof("what") or ""
    if kind not in events.KINDS:
        return events.Unrecognised(id=message.id, time_ms=message.time_ms)
    body = getattr(message, kind)
    fields = {field.name: getattr(body, field.name) for field in body.DESCRIPTOR.fields}
    if "phase" in fields:
        fields["phase"] = _phase(fields["phase"])
    if "accuracy" in fields:
        fields["accuracy"] = accuracy(fields["accuracy"])
    for name in fields.keys() & {"new_labels", "reasons"}:
        fields[name] = tuple(fields[name])
    made: Any = events.KINDS[kind]
    return cast(events.Event, made(id=message.id, time_ms=message.time_ms, **fields))


_CONVERTED = {
    "kind",
    "metadata",
    "reasons",
    "phase",
    "state",
    "accuracy",
    "gate",
    "labels",
    "new_labels",
    "input_shape",
    "held_labels",
    "progress",
    "waits_for",
    "warnings",
    "roles",
}


def _plain_fields(message: Any, kind: type[Any]) -> list[str]:
    """Return the fields of a message that are the same in the value of `kind`."""
    known = kind.__dataclass_fields__
    return [field.name for field in message.DESCRIPTOR.fields if field.name in known and field.name not in _CONVERTED]


def _phase(number: types_pb2.Phase.ValueType) -> results.Phase:
    return cast(results.Phase, _name(types_pb2.Phase, number))


def _name(enum: Any, number: int) -> str:
    """Return the name in lower case; "unknown" for 0 and for what a newer server says."""
    return "unknown" if number == 0 or number not in enum.values() else cast(str, enum.Name(number)).lower()


def _measured(value: float) -> float | None:
    return None if math.isnan(value) else value
