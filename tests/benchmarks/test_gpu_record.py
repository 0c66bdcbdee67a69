"""What a part of the GPU kit has found survives whatever ends it."""

from __future__ import annotations

import json

import pytest

from benchmarks.gpu.record import OutOfTime, Record, read, restore, write_whole
from benchmarks.report import Row


def row(value: float = 1.0) -> Row:
    return Row(name="rate", value=value, unit="/s", bound=">= 1")


def test_rows_are_kept_as_they_come_and_a_finished_cell_is_not_run_again(tmp_path):
    file, ran = tmp_path / "part.jsonl", []

    def work():
        ran.append(1)
        yield row(2.0)
        assert read(file)["cells"]["cell"]["rows"][0]["value"] == 2.0

    for _ in range(2):
        record = Record(file, seconds=10)
        record.cell("cell", work)
        record.end()
    assert len(ran) == 1
    found = read(file)
    assert found["state"] == "ended"
    assert found["cells"]["cell"]["state"] == "done"
    assert found["cells"]["cell"]["rows"][0]["ok"] is True
    assert record.values("cell") == {"rate": 2.0}


def test_a_failure_is_kept_with_its_traceback_and_ends_no_other_cell(tmp_path):
    file = tmp_path / "part.jsonl"

    def fails():
        yield row()
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    record = Record(file, seconds=10)
    record.cell("bad", fails)
    record.cell("good", lambda: [row()])
    found = read(file)["cells"]
    assert found["bad"]["state"] == "failed"
    assert "illegal memory access" in found["bad"]["reason"]
    assert "in fails" in found["bad"]["traceback"]
    assert len(found["bad"]["rows"]) == 1
    assert found["good"]["state"] == "done"
    assert record.values("bad") == {}


@pytest.mark.parametrize(("again", "runs"), [(False, 1), (True, 2)])
def test_what_failed_is_done_once_more_only_when_asked(tmp_path, again, runs):
    file, ran = tmp_path / "part.jsonl", []

    def fails():
        ran.append(1)
        raise RuntimeError("no")

    for _ in range(2):
        Record(file, seconds=10, again=again).cell("cell", fails)
    assert len(ran) == runs


def test_a_cell_that_ends_itself_in_time_goes_on_later_and_its_rows_begin_anew(tmp_path):
    file, late = tmp_path / "part.jsonl", [True, False]

    def work():
        yield row()
        if late.pop(0):
            raise OutOfTime("in phase 2")

    Record(file, seconds=10).cell("cell", work)
    assert read(file)["cells"]["cell"]["state"] == "unfinished"
    Record(file, seconds=10).cell("cell", work)
    found = read(file)["cells"]["cell"]
    assert found["state"] == "done"
    assert len(found["rows"]) == 1


def test_a_cell_that_took_its_process_with_it_twice_is_left_alone(tmp_path):
    file = tmp_path / "part.jsonl"

    def dies():
        raise SystemExit

    for _ in range(2):
        with pytest.raises(SystemExit):
            Record(file, seconds=10).cell("cell", dies)
    Record(file, seconds=10).cell("cell", dies)
    assert read(file)["cells"]["cell"]["state"] == "hangs"


def test_a_cell_for_which_too_little_time_is_left_is_not_begun(tmp_path):
    record = Record(tmp_path / "part.jsonl", seconds=5)
    record.cell("long", lambda: [row()], needs_s=60)
    found = read(tmp_path / "part.jsonl")
    assert found["cells"] == {}
    assert "not begun" in found["notes"][0]


def test_a_line_that_a_kill_cut_off_is_left_out(tmp_path):
    file = tmp_path / "part.jsonl"
    Record(file, seconds=10).cell("cell", lambda: [row()])
    with file.open("ab") as out:
        out.write(b'{"cell": "next", "event": "beg')
    assert list(read(file)["cells"]) == ["cell"]
    Record(file, seconds=10).cell("other", lambda: [row()])
    assert read(file)["cells"]["other"]["state"] == "done"


def test_finished_cells_come_back_from_the_json_of_another_machine(tmp_path):
    file, other = tmp_path / "part.jsonl", tmp_path / "other.jsonl"
    record = Record(file, seconds=10)

    def works():
        record.note("as it should")
        yield row(3.0)

    def fails():
        raise RuntimeError("no")

    record.cell("good", works)
    record.cell("bad", fails)
    record.end()
    write_whole(tmp_path / "gpu.json", read(file))
    restore(json.loads((tmp_path / "gpu.json").read_text()), other)
    assert list(read(other)["cells"]) == ["good"]
    assert read(other)["cells"]["good"] == read(file)["cells"]["good"]
    assert read(other)["state"] != "ended"
