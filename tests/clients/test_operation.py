"""Status, classes, versions, control: values without protobuf in them."""

from __future__ import annotations

import threading

import grpc
import pytest

from accrete import (
    Accuracy,
    Activation,
    Client,
    DeleteReport,
    ForgetReport,
    Gate,
    HeldLabel,
    InvalidInput,
    NotFound,
    NotNow,
    StepProgress,
    Unavailable,
)
from accrete._config import endpoint
from accrete.v1 import teaching_pb2 as te


def test_status_has_every_field_of_the_answer(client):
    status = client.status()
    assert (status.version, status.phase, status.pending, status.store) == (1, "training", 7, "valkey 9.1.2")
    assert status.input_shape == (32, 32, 3)
    assert (status.held_labels, status.in_review) == (("moth",), 3)


def test_classes_come_with_their_state(client):
    assert [(one.label, one.state) for one in client.classes()] == [("cat", "learned"), ("héron", "pending")]


def test_versions_come_with_their_accuracy_and_none_where_nothing_was_measured(client):
    rejected, ready = client.versions()
    assert (rejected.state, rejected.reason, rejected.parent) == ("rejected", "old classes dropped", 1)
    assert (rejected.gate, ready.gate) == (Gate(old_before=0.9, old_after=None, max_old_drop=0.1, min_new=0), None)
    assert ready.labels == ("cat", "dog")
    assert ready.accuracy == Accuracy(
        all=0.95, old=None, new=0.95, average_incremental=0.95, forgetting=None, examples=20, new_examples=20
    )
    assert ready.accuracy.old_examples == 0


def test_a_version_is_pinned_and_unpinned(client):
    assert client.activate(1) == Activation(version=1, pinned=True)
    assert client.unpin() == Activation(version=1, pinned=False)
    with pytest.raises(NotFound, match="no version 9"):
        client.activate(9)


def test_learning_is_paused_resumed_and_triggered(client):
    client.pause()
    assert client.status().paused
    with pytest.raises(NotNow, match="paused"):
        client.trigger_step()
    client.resume()
    assert client.trigger_step() == 7
    assert client.trigger_step(deep=True) == 0
    assert client.status().deep == "kept, +2.1 points"


def test_what_is_set_aside_is_told_tried_again_and_dropped(client):
    assert client.held() == [
        HeldLabel(label="moth", pending=7, attempts=3, reason="out of memory"),
        HeldLabel(label="owl", pending=2, attempts=0, reason="the label is new", awaiting_approval=True),
    ]
    assert client.approve("owl") == 2
    (group,) = client.review()
    assert (group.label, group.principal, group.reason, group.ids) == ("owl", "ann", "burst", ("x", "y", "z"))
    assert client.release_review("owl", reason="burst") == client.drop_review(principal="ann") == 3
    with pytest.raises(NotFound, match="moth"):
        client.approve("moth")
    assert client.retry_held("moth") == 7
    assert client.drop_held("moth") == 7
    with pytest.raises(NotFound, match="cat"):
        client.retry_held("cat")


def test_examples_are_deleted_by_id(client):
    ids = client.add_examples([("cat", b"a"), ("cat", b"b")]).ids
    assert client.delete_examples([*ids, "never"]) == DeleteReport(deleted=2, unknown=["never"])
    with pytest.raises(NotFound):
        client.delete_examples(ids)


def test_more_ids_than_a_call_takes_are_deleted_in_parts(client, state):
    ids = client.add_examples([("cat", b"a")]).ids
    report = client.delete_examples([*map(str, range(10_000)), *ids])
    assert (report.deleted, len(report.unknown)) == (1, 10_000)
    assert len(state.requests("DeleteExamples")) == 2


def test_a_class_is_forgotten(client):
    assert client.forget_class("cat") == ForgetReport(pending=1, exemplars=2, holdout=3)
    with pytest.raises(NotFound, match="unheard"):
        client.forget_class("unheard")


def test_an_enum_value_of_a_newer_server_is_unknown_rather_than_an_error():
    from accrete._calls import decoding as _decoding
    from accrete.v1 import operation_pb2

    assert _decoding.class_info(operation_pb2.ClassInfo(label="a", state=99)).state == "unknown"  # type: ignore[arg-type]


def test_ready_is_what_the_health_service_says(client, server):
    client.wait_ready()
    server.set_serving(False)
    with pytest.raises(Unavailable, match="not SERVING"):
        client.wait_ready(timeout=0.3)
    threading.Timer(0.2, server.set_serving, [True]).start()
    client.wait_ready(timeout=20)


def test_a_server_that_is_still_starting_is_waited_for(client, server):
    server.stop()
    threading.Timer(0.2, server.start).start()
    client.wait_ready(timeout=20)


def test_without_a_server_waiting_for_it_ends_in_time(client, server):
    server.stop()
    with pytest.raises(Unavailable) as caught:
        client.wait_ready(timeout=0.3)
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("call", ["forget_class", "retry_held", "approve", "drop_held"])
def test_a_label_that_is_a_number_is_told_that_labels_are_text(client, state, call):
    with pytest.raises(InvalidInput, match='label is 7, of type int; labels are text, such as "7"'):
        getattr(client, call)(7)
    assert not state.calls


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda client: client.label_inbox({"one": "cat", "two": 7}), "the label of two is 7, of type int; labels are"),
        (lambda client: client.label_inbox({7: "cat"}), r"ids\[0\] is 7, of type int; ids are text"),
        (lambda client: client.skip_inbox(["one", 7]), r"ids\[1\] is 7, of type int; ids are text"),
        (lambda client: client.delete_examples([7]), r"ids\[0\] is 7"),
        (lambda client: client.wait_learned([7]), r"ids\[0\] is 7"),
        (lambda client: client.release_review(label=7), "label is 7, of type int; labels are text"),
        (lambda client: client.drop_review(label=7), "label is 7, of type int; labels are text"),
        (lambda client: client.rename_class("cat", "\udcff"), "label cannot be sent, for it is no UTF-8"),
        (lambda client: client.forget_class("\udcff"), "label cannot be sent, for it is no UTF-8"),
    ],
)
def test_what_is_no_text_is_told_by_name_and_nothing_is_sent(client, state, call, told):
    with pytest.raises(InvalidInput, match=told):
        call(client)
    assert not state.calls


def test_the_status_has_the_node_and_how_far_a_step_is(client, state):
    state.status = {
        "progress": te.Progress(version=2, stage="train", done=3, total=20, loss=0.5),
        "stage_left_ms": 1500,
    }
    status = client.status()
    assert (status.node, status.data_dir) == ("shop", "/srv/accrete")
    assert status.progress == StepProgress(version=2, stage="train", done=3, total=20, loss=0.5, left_s=1.5)
    state.status = {"waits_for": ["more"], "warnings": ["none is kept"]}
    status = client.status()
    assert (status.progress, status.waits_for, status.warnings) == (None, ("more",), ("none is kept",))


def test_every_call_says_which_node_it_is_meant_for(server, monkeypatch):
    for given, variable, sent in (("shöp", None, "shöp"), (None, "shop", "shop"), (None, None, None)):
        monkeypatch.delenv("ACCRETE_NODE", raising=False)
        if variable:
            monkeypatch.setenv("ACCRETE_NODE", variable)
        expected = () if sent is None else (("accrete-node-bin", sent.encode()),)
        assert endpoint(server.address, False, node=given).metadata == expected
        with Client(server.address, node=given) as client:
            assert client.status().version == 1
