"""The command line: what it prints for people and for scripts, and its exit statuses."""

from __future__ import annotations

import importlib.metadata
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import grpc
import numpy as np
import pytest
import typer

from accrete.cli import exits, main, output
from accrete.v1 import operation_pb2 as op
from accrete.v1 import teaching_pb2 as te
from accrete.v1 import types_pb2 as ty
from benchmarks.waiting import until
from tests.clients.memory_server import ACCURACY


class Terminal(io.StringIO):
    """What stands for a person's."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def accrete(server, capsys, monkeypatch):
    """Runs a command against the server: (status, stdout, stderr)."""
    monkeypatch.setenv("ACCRETE_ADDRESS", server.address)

    def accrete(*arguments):
        status = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return accrete


@pytest.fixture
def photos(tmp_path):
    for name in ("cat/a.png", "cat/b.png", "heron/c.png"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path / "photos"


def test_predict_prints_a_table(accrete, photos):
    status, out, _ = accrete("predict", photos / "cat/a.png", photos / "cat/b.png")
    lines = out.splitlines()
    assert status == 0
    assert lines[0].split() == ["image", "label", "probability"]
    assert lines[1].split() == [str(photos / "cat/a.png"), "cat", "0.7500"]
    assert lines[2].split() == ["heron", "0.2500", "provisional"]
    assert lines[5] == "version 1, 2.0 ms in the server"


def test_predict_tells_what_is_unknown_and_how_often_that_is_wrong(accrete, photos):
    _, out, _ = accrete("predict", photos / "cat/a.png", "--unknown-rate", "0.05")
    lines = out.splitlines()
    assert lines[1].split() == [str(photos / "cat/a.png"), "cat", "0.7500", "unknown"]
    assert lines[2].split() == ["heron", "0.2500", "provisional"]
    assert lines[-1].endswith(", 4.8 % of known images are called unknown")


def test_predict_prints_json(accrete, photos):
    status, out, _ = accrete("predict", photos / "cat/a.png", "--json", "--features", "--top-k", "1")
    assert status == 0
    assert json.loads(out) == [
        {
            "image": str(photos / "cat/a.png"),
            "label": "cat",
            "doubt": "improbable",
            "ranked": [{"label": "cat", "probability": 0.75, "provisional": False}],
            "version": 1,
            "timings": {"decode_ms": 0.5, "queue_ms": 0.25, "compute_ms": 1.0, "total_ms": 2.0},
            "unknown": False,
            "false_alarm_rate": 0.0,
            "features": [9.0, 2.0],
        }
    ]


def test_predict_answers_the_others_where_one_file_is_bad_and_names_it(accrete, photos):
    (photos / "cat/broken.png").write_bytes(b"bad")
    (photos / "odd.npy").write_bytes(b"no array")
    files = (photos / "cat/a.png", photos / "cat/broken.png", photos / "odd.npy", photos / "cat/b.png")
    status, out, _ = accrete("predict", *files, "--top-k", "1")
    assert status == exits.FAILED
    lines = out.splitlines()
    assert [line.split()[0] for line in lines[1:3]] == [str(files[0]), str(files[3])]
    assert lines[4] == f"refused: {files[1]}: not an image"
    assert lines[5].startswith(f"refused: {files[2]}: ")
    status, out, _ = accrete("predict", *files, "--json")
    assert status == exits.FAILED
    assert [one.get("label") for one in json.loads(out)] == ["cat", None, None, "cat"]
    assert json.loads(out)[1] == {"image": str(files[1]), "refused": f"{files[1]}: not an image"}
    assert accrete("predict", files[1])[1] == f"refused: {files[1]}: not an image\n"


def test_predict_reads_stdin_and_arrays(accrete, state, monkeypatch, tmp_path):
    np.save(tmp_path / "v.npy", np.zeros(3, np.float32))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"image")))
    assert accrete("predict", "-", tmp_path / "v.npy")[0] == 0
    images = state.requests("Predict")[0].images
    assert images[0].encoded == b"image"
    assert list(images[1].tensor.shape) == [3]


def test_add_teaches_a_folder_and_waits(accrete, state, photos):
    def learned_once_stored():
        while len(state.examples) < 3:
            time.sleep(0.01)
        state.learn(state.examples)

    threading.Thread(target=learned_once_stored, daemon=True).start()
    status, out, _ = accrete("add", photos, "--wait", "20")
    assert (status, out) == (0, "3 stored, 0 stored before, 0 refused\nlearned in version 2\n")
    assert {example.label for example in state.examples.values()} == {"cat", "heron"}


def test_add_teaches_files_under_a_label(accrete, state, photos):
    status, out, _ = accrete("add", "--label", "bird", photos / "heron/c.png", photos / "cat/a.png", "--json")
    report = json.loads(out)
    assert status == 0
    assert (report["stored"], report["duplicates"], report["refused"], report["version"]) == (2, 0, [], None)
    assert report["ids"] == list(state.examples)
    assert len(state.requests("AddExamples")) == 1


def test_add_ends_with_1_when_an_image_was_refused_and_names_it(accrete, photos):
    (photos / "cat/broken.png").write_bytes(b"bad")
    status, out, _ = accrete("add", photos)
    assert status == exits.FAILED
    assert "3 stored, 0 stored before, 1 refused" in out
    assert f"{photos / 'cat/broken.png'} (cat): " in out


def test_add_shows_labels_and_counts_first_and_stores_nothing_on_a_dry_run(accrete, state, photos):
    (photos / "cat/c.gif").write_bytes(b"GIF8")
    (photos / "cat/deeper").mkdir()
    (photos / "cat/deeper/d.png").write_bytes(b"d")
    status, out, _ = accrete("add", photos, "--dry-run")
    lines = [line.split() for line in out.splitlines()[:3]]
    assert (status, lines) == (0, [["label", "images"], ["cat", "3"], ["heron", "1"]])
    assert "4 images of 2 labels" in out
    assert "passed over: 1 x .gif file" in out
    assert "warning: 1 folders with images stand within the label folders" in out
    assert not state.calls
    found = json.loads(accrete("add", photos, "--dry-run", "--json")[1])
    assert found["labels"] == {"cat": 3, "heron": 1}
    assert found["skipped"] == {".gif file, a format that is not read": 1}
    status, out, err = accrete("add", photos)
    assert (status, out) == (0, "4 stored, 0 stored before, 0 refused\n")
    assert "4 images of 2 labels" in err
    assert len(state.requests("AddExamples")) == 1


def test_add_reads_labels_from_a_table(accrete, state, photos):
    (photos / "labels.csv").write_text("file,label\ncat/a.png,tom\ncat/b.png,kitty\ngone.png,tom\n")
    status, out, _ = accrete("add", "--table", photos / "labels.csv", "--batch-size", "1")
    assert status == exits.FAILED
    assert "2 stored, 0 stored before, 1 refused" in out
    assert f"{photos / 'gone.png'} (tom): " in out
    assert {example.label for example in state.examples.values()} == {"tom", "kitty"}
    assert accrete("add", "--table", photos / "labels.csv", "--label", "x")[0] == exits.USAGE


def test_add_tells_the_ids_also_when_the_wait_is_in_vain(accrete, state, photos):
    status, out, err = accrete("add", photos, "--wait", "0.1", "--json")
    assert status == exits.FAILED
    report = json.loads(out)
    assert (report["ids"], report["version"]) == (list(state.examples), None)
    assert "not in the live version (1) in time; `accrete quarantine`" in err


def test_whoever_waits_at_a_terminal_is_told_what_ctrl_c_ends(accrete, photos, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert "Ctrl-C ends the waiting, not the learning" in accrete("add", photos, "--wait", "0.1")[2]


PROGRESS = te.Progress(version=2, stage="train", done=3, total=20, loss=0.5)
MOTH, OWL = (
    op.HeldLabel(label="moth", pending=7, reason="out of memory", attempts=3),
    op.HeldLabel(label="owl", pending=1, awaiting_approval=True),
)


@pytest.fixture
def quick_looks(monkeypatch):
    monkeypatch.setattr("accrete.cli.waiting._LOOK_S", 0.01)


def test_waiting_shows_how_far_the_learner_is_in_a_line_that_moves(quick_looks, accrete, state, photos, monkeypatch):
    state.status = {"progress": PROGRESS, "stage_left_ms": 102_000}
    told = Terminal()
    monkeypatch.setattr(sys, "stderr", told)

    def learn_once_told():
        until(lambda: "train 3 of 20" in told.getvalue())
        state.learn(state.examples)

    threading.Thread(target=learn_once_told, daemon=True).start()
    assert accrete("add", photos, "--wait", "60")[0] == 0
    assert "\r\x1b[Kversion 2: train 3 of 20, loss 0.500, 1 min 42 s left" in told.getvalue()


def test_waiting_prints_a_line_for_each_stage_where_lines_do_not_move(quick_looks, accrete, state, photos):
    waits = "examples of new labels: heron has 2 of 20 (trigger.min_examples)"
    state.status = {"phase": ty.WAITING, "waits_for": [waits, "or 80 s more"], "held_labels": [], "in_review": 0}

    def learn_after_some_looks():
        until(lambda: len(state.requests("GetStatus")) > 4)
        state.status = {"progress": PROGRESS}
        before = len(state.requests("GetStatus"))
        until(lambda: len(state.requests("GetStatus")) > before + 4)
        state.learn(state.examples)

    threading.Thread(target=learn_after_some_looks, daemon=True).start()
    status, out, err = accrete("add", photos, "--wait", "60")
    assert (status, out.splitlines()[-1]) == (0, "learned in version 2")
    assert err.splitlines()[-2:] == [
        f"waiting for {waits}; or 80 s more",
        "version 2: train 3 of 20, loss 0.500",
    ]


@pytest.mark.parametrize(
    ("status", "held", "reason"),
    [
        ({"phase": ty.PAUSED, "paused": True}, [], "learning is paused; `accrete resume` lets it go on"),
        (
            {"phase": ty.BLOCKED, "phase_reason": "version 3 is damaged"},
            [],
            "learning is blocked: version 3 is damaged",
        ),
        ({"held_labels": ["owl"]}, [OWL], "owl awaits approval (`accrete approve`, or `accrete drop`)"),
        ({"held_labels": ["moth"]}, [MOTH], "moth is set aside: out of memory (`accrete retry`, or `accrete drop`)"),
        ({"in_review": 3}, [], "3 of owl are set aside for review: burst (`accrete review release`"),
    ],
)
@pytest.mark.parametrize("waiting", ["add", "wait"])
def test_waiting_in_vain_ends_with_the_reason(quick_looks, accrete, state, photos, waiting, status, held, reason):
    label = "owl" if "owl" in reason else "moth"
    (photos / "cat").rename(photos / label)
    (photos / "heron" / "c.png").unlink()
    pending = label if held else "other"
    state.classes = [op.ClassInfo(label=pending, state=ty.PENDING, pending=2 if held else 0)]
    state.status = {"phase": ty.WAITING, "held_labels": [], "in_review": 0} | status
    state.held = held
    if waiting == "wait":
        state.examples["a"] = te.Example()
        code, out, err = accrete("wait", "a", "--timeout", "600")
        err = out
    else:
        code, _, err = accrete("add", photos, "--wait", "600")
    assert code == exits.FAILED
    assert f"waiting is in vain: {reason}" in err


def test_a_teacher_who_may_not_see_what_is_set_aside_is_told_what_can_be_told(quick_looks, accrete, state, photos):
    for method in ("ListHeld", "ListReview"):
        state.fail(method, grpc.StatusCode.PERMISSION_DENIED, times=1000)
    state.classes = [op.ClassInfo(label=label, state=ty.PENDING) for label in ("cat", "heron")]
    state.status = {"phase": ty.WAITING, "held_labels": [], "in_review": 3}

    def learn_after_some_looks() -> None:
        until(lambda: len(state.requests("ListReview")) > 2)
        state.learn(state.examples)

    threading.Thread(target=learn_after_some_looks, daemon=True).start()
    status, _, err = accrete("add", photos, "--wait", "60")
    assert (status, err.splitlines()[-1]) == (0, "waiting")
    state.classes = [op.ClassInfo(label="cat", state=ty.PENDING, pending=2)]
    state.status["held_labels"] = ["cat"]
    state.examples["new"] = te.Example()
    status, out, _ = accrete("wait", "new", "--timeout", "60")
    assert status == exits.FAILED
    assert "set aside: cat; who operates the server sees why" in out


def test_waiting_goes_on_while_anything_of_it_may_still_be_learned(quick_looks, accrete, state, photos):
    state.classes = [op.ClassInfo(label=label, state=ty.PENDING, pending=1) for label in ("cat", "heron")]
    state.held = [op.HeldLabel(label="cat", pending=1, awaiting_approval=True)]
    state.status = {"phase": ty.WAITING, "held_labels": ["cat"], "in_review": 0}

    def learn_after_some_looks():
        until(lambda: len(state.requests("GetStatus")) > 5)
        state.learn(state.examples)

    threading.Thread(target=learn_after_some_looks, daemon=True).start()
    assert accrete("add", photos, "--wait", "60")[0] == 0


def test_a_folder_behind_wait_is_told_where_it_goes(accrete, photos):
    status, _, err = accrete("add", "--wait", photos)
    assert status == exits.USAGE
    assert "comes after the paths" in err


def test_wait_reads_ids_from_stdin(accrete, state, monkeypatch):
    state.examples.update({"a": te.Example(), "b": te.Example()})
    state.learn(["a"])
    monkeypatch.setattr(sys, "stdin", io.StringIO("a\nb\n"))
    status, out, _ = accrete("wait", "-", "--timeout", "0.1", "--json")
    assert status == exits.FAILED
    assert json.loads(out) == {"learned": False, "version": 2, "waiting": ["b"]}
    assert accrete("wait", "a")[:2] == (0, "learned in version 2\n")


def test_status_prints_lines(accrete):
    status, out, _ = accrete("status")
    assert status == 0
    assert "node       shop, data /srv/accrete\n" in out
    assert "version    1\n" in out
    assert "learner    training\n" in out
    assert "pending    7, oldest 1 min 5 s\n" in out
    assert "exemplars  40 of 60, 120.0 KiB\n" in out
    assert "unknown    4.8 % of false alarms by the hold-out (10 images), 5.0 % allowed\n" in out
    assert "input      32 x 32 x 3\n" in out


def test_servers_are_listed_and_counted(accrete, state):
    assert accrete("servers")[:2] == (0, "The server tells of none (server.advertise).\n")
    assert "servers " not in accrete("status")[1]
    one = op.ServerInfo(id="0123456789ab", address="10.0.0.7:50051", release="0.1.0", version=3, busyness=0.25)
    state.servers = [one]
    one.state = op.ServerInfo.DRAINING
    state.status = {"servers": 1}
    status, out, _ = accrete("servers")
    headers, row = out.splitlines()
    assert status == 0
    assert headers.split() == ["address", "state", "version", "busy", "started", "release", "id"]
    assert row.split()[:4] == ["10.0.0.7:50051", "draining", "3", "25.0"]
    assert row.split()[-2:] == ["0.1.0", "01234567"]
    [told] = json.loads(accrete("servers", "--json")[1])
    assert (told["address"], told["state"], told["busyness"]) == ("10.0.0.7:50051", "draining", 0.25)
    assert "servers    1\n" in accrete("status")[1]


def test_status_says_what_learning_waits_for(accrete, state):
    state.blocked = "version 2 is damaged: v000002/head.safetensors does not match its checksum"
    assert f"learner    blocked: {state.blocked}\n" in accrete("status")[1]


def test_status_says_who_asks(accrete, state):
    assert "caller" not in accrete("status")[1]
    state.status = {"principal": "boss", "roles": ["operate", "teach"]}
    assert "caller     boss, operate, teach\n" in accrete("status")[1]


def test_status_prints_json(accrete):
    found = json.loads(accrete("status", "--json")[1])
    assert (found["version"], found["phase"], found["input_shape"]) == (1, "training", [32, 32, 3])


def test_classes_are_listed_in_aligned_columns(accrete):
    status, out, _ = accrete("classes")
    lines = out.splitlines()
    assert status == 0
    assert lines[1].split() == ["cat", "learned", "1", "0", "20", "5", "-", "-"]
    assert lines[2].split() == ["héron", "pending", "-", "7", "0", "0", "-", "-"]
    assert lines[0].index("state") == lines[1].index("learned") == lines[2].index("pending")
    assert json.loads(accrete("classes", "--json")[1])[1]["label"] == "héron"


def test_versions_are_listed_with_their_accuracy(accrete):
    status, out, _ = accrete("versions")
    assert status == 0
    assert "old classes dropped" in out.splitlines()[1]
    assert out.splitlines()[2].split()[:8] == ["1", "ready", "live", "2", "2", "95.0", "%", "of"]
    assert out.splitlines()[2].split()[8:15] == ["20", "-", "95.0", "%", "of", "20", "-"]
    found = json.loads(accrete("versions", "--json")[1])
    assert found[1]["accuracy"]["old"] is None
    assert (found[1]["accuracy"]["examples"], found[1]["accuracy"]["new_examples"]) == (20, 20)


def test_what_is_set_aside_is_listed_with_its_reason(accrete):
    status, out, _ = accrete("quarantine")
    assert status == 0
    assert out.splitlines()[1].split(maxsplit=3) == ["moth", "7", "3", "out of memory"]
    assert json.loads(accrete("quarantine", "--json")[1])[0]["reason"] == "out of memory"
    assert [one["awaiting_approval"] for one in json.loads(accrete("quarantine", "--json")[1])] == [False, True]


def test_the_former_name_of_quarantine_still_works(accrete):
    assert accrete("held") == accrete("quarantine")


def test_what_is_set_aside_for_review_is_listed(accrete):
    assert accrete("review")[1].splitlines()[1].split() == ["owl", "ann", "burst", "3", "90", "x"]
    assert json.loads(accrete("review", "list", "--json")[1])[0]["ids"] == ["x", "y", "z"]
    assert json.loads(accrete("review", "list", "owl", "--reason", "share", "--json")[1]) == []


@pytest.mark.parametrize(
    ("arguments", "text", "found"),
    [
        (["activate", "1"], "version 1 is live, pinned\n", {"version": 1, "pinned": True}),
        (
            ["discard", "3", "--yes"],
            "version 3 is given up, steps start from version 2; to be learned again: moth\n",
            {"base": 2, "relearned": ["moth"]},
        ),
        (["unpin"], "version 1 is live\n", {"version": 1, "pinned": False}),
        (["pause"], "paused\n", {"paused": True}),
        (["resume"], "resumed\n", {"paused": False}),
        (["trigger"], "a step starts with 7 pending examples\n", {"pending": 7}),
        (["trigger", "--deep"], "a deep step starts; accrete status says how far it is\n", {"pending": 0}),
        (["retry", "moth"], "7 pending examples of moth may start a step\n", {"pending": 7}),
        (["approve", "owl"], "owl is approved, with 2 pending examples\n", {"pending": 2}),
        (["review", "release", "owl"], "released 3 examples\n", {"released": 3}),
        (["review", "drop", "--principal", "ann", "--yes"], "dropped 3 examples\n", {"dropped": 3}),
        (["drop", "moth", "--yes"], "dropped 7 examples of moth\n", {"dropped": 7}),
        (
            ["forget", "cat", "-y"],
            "forgot cat: 1 pending, 2 exemplars, 3 hold-out\n",
            {"pending": 1, "exemplars": 2, "holdout": 3},
        ),
    ],
)
def test_control(accrete, arguments, text, found):
    assert accrete(*arguments)[:2] == (0, text)
    status, out, _ = accrete(*arguments, "--json")
    assert (status, json.loads(out)) == (0, found)


DESTRUCTIVE = {
    "forget cat": "0 pending examples, 20 exemplars and 5 of the hold-out are removed for good",
    "forget unheard": "unheard is not answered any more, and all that is kept of it",
    "delete a b": "2 examples are removed for good",
    "drop moth": "7 pending examples of moth are removed",
    "discard 3": "Version 3 is given up for good",
    "review drop owl --reason burst": "chosen by: owl, burst",
}


@pytest.mark.parametrize("command", DESTRUCTIVE)
def test_what_cannot_be_undone_says_what_it_costs_and_asks(accrete, state, monkeypatch, command):
    changing = {"ForgetClass", "DeleteExamples", "DropHeld", "DiscardVersion", "DropReview"}

    def changed() -> list[str]:
        return [name for name, _ in state.calls if name in changing]

    status, out, err = accrete(*command.split())
    assert (status, out) == (exits.USAGE, "")
    assert DESTRUCTIVE[command] in err
    assert err.endswith("Nothing was done: there is nobody to ask, and --yes is not given\n")
    for answer, expected, calls in (("n\n", exits.FAILED, 0), ("", exits.FAILED, 0), ("y\n", 0, 1)):
        monkeypatch.setattr(sys, "stdin", Terminal(answer))
        state.examples["a"] = te.Example()
        status, _, err = accrete(*command.split())
        assert len(changed()) == calls
        assert status == expected or calls  # the server does not know some of them
        assert DESTRUCTIVE[command] in err


@pytest.mark.parametrize("command", ["predict {}", "add {}", "add --label cat {}", "add --table {}", "eval {}"])
def test_a_path_that_is_not_there_is_wrong_usage(accrete, state, tmp_path, command):
    missing = tmp_path / "nowhere"
    status, out, err = accrete(*command.format(missing).split())
    assert (status, out) == (exits.USAGE, "")
    assert str(missing) in err
    assert not state.calls


def test_a_reason_that_there_is_not_lists_those_that_there_are(accrete):
    status, _, err = accrete("review", "--reason", "nonsense")
    assert status == exits.USAGE
    assert all(reason in err for reason in ("contradiction", "duplicates", "burst", "share"))


def test_delete(accrete, state):
    state.examples["a"] = te.Example()
    assert accrete("delete", "a", "b", "--yes")[:2] == (0, "1 deleted, 1 unknown\n")


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (
            {"all": 0.75, "old": 0.5, "new": 1.0, "examples": 22, "new_examples": 11},
            "all 75.0 % of 22, old 50.0 % of 11",
        ),
        ({"all": 0.75, "old": 0.5, "new": 1.0, "examples": 22}, "all 75.0 % of 22, old 50.0 %, new 100.0 %"),
        ({"all": 0.5, "old": 0.5, "new": None, "examples": 22}, "all 50.0 % of 22, old 50.0 % of 22"),
        ({"all": None, "old": None, "new": None, "examples": 0}, "not measured: no hold-out"),
    ],
    ids=["both", "an earlier release did not count", "old alone", "nothing to measure it on"],
)
def test_an_accuracy_is_told_with_the_images_that_it_is_of(accrete, state, values, told):
    wire = te.Accuracy()
    for name, value in values.items():
        setattr(wire, name, float("nan") if value is None else value)
    state.emit(committed=te.VersionCommitted(version=2, accuracy=wire, step_seconds=1.5))
    assert f"; accuracy {told}" in accrete("watch", "--after", "0", "--count", "1")[1]


def test_watch_prints_a_line_for_each_event(accrete, state):
    state.emit(phase=te.PhaseChanged(phase=ty.STAGING, reason="2 new classes"))
    state.emit(progress=te.Progress(version=2, stage="train", done=3, total=20, loss=0.5))
    state.emit(progress=te.Progress(version=2, stage="train", done=20, total=20, loss=0.25))
    state.emit(progress=te.Progress(version=2, stage="export", done=1, total=1, loss=float("nan")))
    state.emit(committed=te.VersionCommitted(version=2, new_labels=["cat"], accuracy=ACCURACY, step_seconds=1.5))
    state.emit(activated=te.VersionActivated(version=2, pinned=True))
    state.emit(rejected=te.StepRejected(version=3, reason="worse", accuracy=ACCURACY))
    state.emit(failed=te.StepFailed(reason="killed", attempt=2))
    state.emit(discarded=te.StepDiscarded(reason="examples were deleted"))
    state.emit(forgotten=te.ClassForgotten(label="cat"))
    state.emit(provisional=te.ClassProvisional(label="dog", examples=5))
    state.emit(reviewed=te.ExamplesReviewed(label="dog", examples=9, reasons=["burst", "share"]))
    status, out, _ = accrete("watch", "--after", "0", "--count", "12")
    assert status == 0
    assert [line[10:] for line in out.splitlines()] == [
        "phase        staging: 2 new classes",
        "progress     version 2: train 20 of 20, loss 0.250",
        "progress     version 2: export 1 of 1",
        "committed    version 2: cat in 1.5 s; accuracy all 95.0 % of 20, new 95.0 % of 20",
        "activated    version 2 (pinned)",
        "rejected     version 3: worse; accuracy all 95.0 % of 20, new 95.0 % of 20",
        "failed       attempt 2: killed",
        "discarded    examples were deleted; it is run anew",
        "forgotten    cat",
        "provisional  dog, from 5 examples",
        "reviewed     dog: 9 examples set aside (burst, share)",
    ]


def test_how_far_a_step_is_moves_in_one_line_on_a_terminal(accrete, state, monkeypatch):
    def emit(seconds: int, **what: Any) -> None:
        state.emit(**what)
        state.events[-1].time_ms = 1_700_000_000_000 + seconds * 1000

    emit(0, phase=te.PhaseChanged(phase=ty.TRAINING))
    for done in (1, 2, 3):
        emit(done * 10, progress=te.Progress(version=2, stage="train", done=done, total=3, loss=0.5))
    out = Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    assert accrete("watch", "--after", "0", "--count", "4")[0] == 0
    parts = out.getvalue().split("\r\x1b[K")
    assert [part[10:] for part in parts if part] == [
        "phase        training\n",
        "progress     version 2: train 1 of 3, loss 0.500, 20 s left",
        "progress     version 2: train 2 of 3, loss 0.500, 10 s left",
        "progress     version 2: train 3 of 3, loss 0.500\n",
    ]


def test_watch_prints_a_json_object_a_line(accrete, state):
    state.emit(rejected=te.StepRejected(version=3, reason="worse", accuracy=ACCURACY))
    out = accrete("watch", "--after", "0", "--count", "1", "--json")[1]
    event = json.loads(out)
    assert out.count("\n") == 1
    assert (event["id"], event["kind"], event["version"]) == ("1-0", "rejected", 3)
    assert event["accuracy"]["old"] is None


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, exits.FAILED),
        (grpc.StatusCode.NOT_FOUND, exits.FAILED),
        (grpc.StatusCode.FAILED_PRECONDITION, exits.FAILED),
        (grpc.StatusCode.INTERNAL, exits.FAILED),
        (grpc.StatusCode.DEADLINE_EXCEEDED, exits.UNREACHABLE),
    ],
)
def test_an_error_is_one_line_on_stderr_and_an_exit_status(accrete, state, code, expected):
    state.fail("GetStatus", code, details="why it failed")
    assert accrete("status") == (expected, "", "accrete: why it failed\n")


def test_no_server_ends_with_3(capsys, free_address):
    assert main(["status", "--timeout", "0.2", "--address", free_address]) == exits.UNREACHABLE
    told = capsys.readouterr().err
    assert told.startswith(f"accrete: nothing listens at {free_address}; start it with accrete up")


def test_without_a_command_all_of_them_are_listed(capsys):
    assert main([]) == exits.USAGE
    assert "accrete add photos/ --wait" in capsys.readouterr().err


def test_whoever_waits_at_a_terminal_for_a_server_is_told_so_once(accrete, state, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    state.fail("GetStatus", grpc.StatusCode.UNAVAILABLE, details="the store is away", times=7)
    status, _, told = accrete("status")
    assert (status, told) == (0, "accrete: the store is away; trying again, for as long as --timeout says\n")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["predict"],
        ["activate", "three"],
        ["status", "--timeout", "0"],
        ["status", "--address", "nowhere"],
        ["status", "--ca", "/nowhere/ca.pem"],
    ],
)
def test_wrong_usage_ends_with_2(capsys, arguments):
    assert main(arguments) == exits.USAGE
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(("Usage: ", "accrete: "))


CLIENT = [
    "predict",
    "add",
    "wait",
    "watch",
    "status",
    "classes",
    "versions",
    "quarantine",
    "activate",
    "unpin",
    "discard",
    "pause",
    "resume",
    "trigger",
    "retry",
    "approve",
    "drop",
    "review",
    "forget",
    "delete",
]
NODE = ["up", "serve", "learn", "page", "demo", "bench", "token", "backup", "restore"]


def test_help_lists_every_command(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"\n  {command} " in out for command in CLIENT + NODE)
    assert "\n  held " not in out
    assert "Exit status:" in out


@pytest.mark.parametrize("command", CLIENT)
def test_help_of_a_command_has_an_example(capsys, command):
    assert main([command, "--help"]) == 0
    assert f"Example:\n  accrete {'add' if command == 'wait' else command}" in capsys.readouterr().out


def test_the_release_is_printed(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"accrete {importlib.metadata.version('accrete')}\n"


def _entry(monkeypatch: pytest.MonkeyPatch, load: Callable[[], object]) -> None:
    class Entry:
        def load(self) -> object:
            return load()

    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group, name: [Entry()] if name == "up" else [])


@dataclass(frozen=True)
class Folder:
    data_dir: str = ""


def up(folder: Folder, port: Annotated[int, typer.Option()] = 0) -> int:
    """Stand in for a command of the server."""
    return port if folder.data_dir == "here" else 1


def test_a_command_of_the_server_is_loaded_by_name(monkeypatch):
    _entry(monkeypatch, lambda: up)
    assert main(["up", "--data-dir", "here", "--port", "42"]) == 42


def test_a_command_of_the_server_may_have_commands(monkeypatch, capsys):
    inner = typer.Typer(help="Compare.")
    inner.command()(up)
    _entry(monkeypatch, lambda: inner)
    assert main(["up", "up", "--data-dir", "here", "--port", "42"]) == 42
    assert main(["up", "--help"]) == main(["up", "up", "--help"]) == 0
    assert {"Compare.", "Stand in for a command of the server."} <= {
        *map(str.strip, capsys.readouterr().out.splitlines())
    }


def test_a_command_whose_packages_are_missing_says_what_to_install(monkeypatch, capsys):
    def missing():
        raise ModuleNotFoundError("No module named 'redis'")

    _entry(monkeypatch, missing)
    assert main(["up", "--data-dir", "here"]) == exits.USAGE
    told = capsys.readouterr().err
    assert 'pip install "accrete[server]", or "accrete[light]"' in told
    assert "(No module named 'redis')" in told


def test_other_commands_load_no_entry_point(monkeypatch, accrete):
    monkeypatch.setattr(importlib.metadata, "entry_points", None)
    assert accrete("status")[0] == 0


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("stat", ["status"]),
        ("status --ti", ["--timeout"]),
        ("review ", ["list", "release", "drop"]),
        ("hel", []),
        ("up --data", ["--data-dir"]),
    ],
)
def test_a_shell_is_told_what_may_follow(words, expected):
    arguments = ["accrete", *words.split(" ")]
    environment = {
        **os.environ,
        "_ACCRETE_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(arguments),
        "COMP_CWORD": str(len(arguments) - 1),
    }
    done = subprocess.run(
        [sys.executable, "-m", "accrete"], capture_output=True, text=True, env=environment, timeout=300
    )
    assert done.stdout.split() == expected, done.stderr


def test_completion_is_installed_for_a_shell(tmp_path):
    environment = {**os.environ, "HOME": str(tmp_path)}
    command = ["bash", "-c", f"{sys.executable} -m accrete --install-completion; exit $?"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "_ACCRETE_COMPLETE=complete_bash" in (tmp_path / ".bash_completions" / "accrete.sh").read_text()


def test_help_imports_neither_grpc_nor_numpy():
    code = (
        "import sys; from accrete.cli import main; main(['--help']); sys.exit(bool({'grpc', 'numpy'} & {*sys.modules}))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=300).returncode == 0


def test_the_module_runs_as_the_script_does(server):
    environment = {**os.environ, "ACCRETE_ADDRESS": server.address}
    done = subprocess.run(
        [sys.executable, "-m", "accrete", "trigger"], capture_output=True, text=True, env=environment, timeout=300
    )
    assert (done.returncode, done.stdout) == (0, "a step starts with 7 pending examples\n"), done.stderr


@pytest.fixture
def heeds_interrupts():
    """A shell has what it starts in the background ignore SIGINT, and so would our children."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


ASCII = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}


@pytest.mark.parametrize("environment", [ASCII, {"PYTHONIOENCODING": "latin-1"}, {"PYTHONUTF8": "1"}])
def test_what_a_terminal_cannot_show_is_escaped_after_it_was_stored(server, state, tmp_path, environment):
    folder = os.fsencode(tmp_path / "photos") + b"/" + "猫é🦆".encode()
    os.makedirs(folder)
    for name in (b"a.png", b"b\xff.png"):  # no UTF-8
        with open(folder + b"/" + name, "wb") as file:
            file.write(b"bad" if name == b"b\xff.png" else b"a")

    def run(*arguments: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [sys.executable, "-m", "accrete", *arguments],
            env={**os.environ, "ACCRETE_ADDRESS": server.address, **environment},
            capture_output=True,
            timeout=300,
        )

    done = run("add", str(tmp_path / "photos"))
    assert (done.returncode, b"Traceback" in done.stderr) == (1, False), done.stderr
    assert done.stdout.startswith(b"1 stored")
    assert b"b\\udcff.png" in done.stdout
    assert [example.label for example in state.examples.values()] == ["猫é🦆"]
    found = json.loads(run("add", str(tmp_path / "photos"), "--json").stdout)
    assert (found["duplicates"], found["refused"][0]["label"]) == (1, "猫é🦆")
    assert run("predict", str(tmp_path / "photos/猫é🦆/a.png")).returncode == 0


def test_columns_are_as_wide_as_what_a_terminal_shows(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), "ascii"))
    shown = output.table(["label", "images"], [["früh", 1], ["猫", 22], ["\udcff", 3]]).splitlines()
    assert [line.split()[0] for line in shown[1:]] == [r"fr\xfch", r"\u732b", r"\udcff"]
    assert len({len(line) for line in shown}) == 1


def test_ids_that_are_no_text_are_wrong_usage(server):
    done = subprocess.run(
        [sys.executable, "-m", "accrete", "wait", "-"],
        env={**os.environ, "ACCRETE_ADDRESS": server.address, "PYTHONIOENCODING": "utf-8:strict"},
        input=b"\xff\n",
        capture_output=True,
        timeout=300,
    )
    assert (done.returncode, done.stderr.startswith(b"accrete: stdin is not utf-8")) == (2, True), done.stderr


@pytest.mark.usefixtures("heeds_interrupts")
def test_a_watch_that_is_interrupted_has_ended_well(server, state):
    state.emit(forgotten=te.ClassForgotten(label="cat"))
    command = [sys.executable, "-m", "accrete", "watch", "--after", "0", "--address", server.address]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().endswith("cat\n")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (0, "")


def test_a_reader_that_has_seen_enough_is_no_error(server, state):
    for n in range(20_000):
        state.events.append(te.Event(id=f"{n + 1}-0", forgotten=te.ClassForgotten(label="x" * 20)))
    command = (
        f"{sys.executable} -m accrete watch --after 0 --address {server.address} | head -n 1; echo ${{PIPESTATUS[0]}}"
    )
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=300)
    assert done.stdout.splitlines()[-1] == "0"
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("value", "text"), [(850, "850 ms"), (42_000, "42 s"), (200_000, "3 min 20 s"), (7_500_000, "2 h 5 min")]
)
def test_durations_are_told_for_people(value, text):
    assert output.duration(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(512, "512 B"), (1536, "1.5 KiB"), (3 * 2**40, "3.0 TiB"), (2**60, "1048576.0 TiB")]
)
def test_sizes_are_told_for_people(value, text):
    assert output.size(value) == text


def test_an_empty_table_has_its_headers():
    assert output.table(["label", "state"], []) == "label  state"
