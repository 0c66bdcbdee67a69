"""Watching: every kind of event, across broken connections."""

from __future__ import annotations

import dataclasses
import itertools
import threading

import grpc
import pytest

from accrete import (
    ClassForgotten,
    ClassProvisional,
    Client,
    Event,
    ExamplesReviewed,
    IncompatibleServer,
    PhaseChanged,
    Progress,
    StepDiscarded,
    StepFailed,
    StepRejected,
    Unavailable,
    Unrecognised,
    VersionActivated,
    VersionCommitted,
)
from accrete.v1 import teaching_pb2 as te
from accrete.v1 import types_pb2 as ty
from tests.clients.conftest import FAST
from tests.clients.memory_server import ACCURACY


def _take(client: Client, count: int, after: str = "") -> list[Event]:
    return list(itertools.islice(client.watch(after=after), count))


def _labels(events: list[Event]) -> list[str]:
    """As a caller would take events apart: type checkers follow."""
    found: list[str] = []
    for event in events:
        match event:
            case ClassForgotten(label=label):
                found.append(label)
            case other:
                raise AssertionError(other)
    return found


def test_every_kind_of_event_becomes_its_value(client, state):
    state.emit(phase=te.PhaseChanged(phase=ty.STAGING, reason="2 new classes"))
    state.emit(progress=te.Progress(version=2, stage="train", done=3, total=20, loss=0.5))
    state.emit(committed=te.VersionCommitted(version=2, new_labels=["cat"], accuracy=ACCURACY, step_seconds=1.5))
    state.emit(activated=te.VersionActivated(version=2, pinned=True))
    state.emit(rejected=te.StepRejected(version=3, reason="worse", accuracy=ACCURACY))
    state.emit(failed=te.StepFailed(reason="killed", attempt=2))
    state.emit(discarded=te.StepDiscarded(reason="examples were deleted"))
    state.emit(forgotten=te.ClassForgotten(label="cat"))
    state.emit(provisional=te.ClassProvisional(label="dog", examples=5))
    state.emit(reviewed=te.ExamplesReviewed(label="dog", examples=9, reasons=["burst", "share"]))
    state.emit()
    events = _take(client, 11, after="0")
    committed = events[2]
    assert isinstance(committed, VersionCommitted)
    accuracy = committed.accuracy
    assert [dataclasses.replace(event, id="", time_ms=0) for event in events] == [
        PhaseChanged(phase="staging", reason="2 new classes"),
        Progress(version=2, stage="train", done=3, total=20, loss=0.5),
        VersionCommitted(version=2, new_labels=("cat",), accuracy=accuracy, step_seconds=1.5),
        VersionActivated(version=2, pinned=True),
        StepRejected(version=3, reason="worse", accuracy=accuracy),
        StepFailed(reason="killed", attempt=2),
        StepDiscarded(reason="examples were deleted"),
        ClassForgotten(label="cat"),
        ClassProvisional(label="dog", examples=5),
        ExamplesReviewed(label="dog", examples=9, reasons=("burst", "share")),
        Unrecognised(),
    ]
    assert (accuracy.all, accuracy.old) == (0.95, None)
    assert [event.id for event in events] == [f"{n}-0" for n in range(1, 12)]
    assert events[3].kind == "activated"
    assert all(event.what is event for event in events)
    assert events[0].time_ms == 1_700_000_000_001


def test_events_come_as_they_happen(client, state):
    timer = threading.Timer(0.1, state.emit, kwargs={"forgotten": te.ClassForgotten(label="late")})
    state.emit(forgotten=te.ClassForgotten(label="before"))
    timer.start()
    assert _labels(_take(client, 1)) == ["late"]


def test_a_broken_connection_goes_on_behind_the_last_event_seen(client, state):
    for n in range(3):
        state.emit(forgotten=te.ClassForgotten(label=str(n)))
    labels = []
    for event in client.watch(after="0"):
        labels += _labels([event])
        if len(labels) == 3:
            state.drop_watchers()
            state.emit(forgotten=te.ClassForgotten(label="3"))
        if len(labels) == 4:
            break
    assert labels == ["0", "1", "2", "3"]
    assert [request.after for request in state.requests("Watch")] == ["0", "3-0"]


def test_a_restart_of_the_server_in_between_goes_unseen(client, server, state):
    state.emit(forgotten=te.ClassForgotten(label="0"))
    events = client.watch(after="0")
    assert _labels([next(events)]) == ["0"]
    server.stop()
    state.emit(forgotten=te.ClassForgotten(label="1"))
    threading.Timer(0.3, server.start).start()
    assert _labels([next(events)]) == ["1"]
    events.close()


def test_an_outage_longer_than_the_timeout_is_raised(client, server):
    server.stop()
    with pytest.raises(Unavailable):
        next(client.watch(timeout=0.3))


def test_an_error_that_no_retry_helps_is_raised_at_once(client, state):
    state.fail("Watch", grpc.StatusCode.UNIMPLEMENTED)
    with pytest.raises(IncompatibleServer):
        next(client.watch())


def test_leaving_early_ends_the_call(server, state):
    state.emit(forgotten=te.ClassForgotten(label="0"))
    with Client(server.address, retry=FAST) as client:
        for _ in client.watch(after="0"):
            break
        assert client.status().version == 1
