"""Adding examples: what is acknowledged is stored once, whatever goes wrong in between."""

from __future__ import annotations

import io
import pathlib
import struct
from collections.abc import Iterator

import grpc
import numpy as np
import pytest

from accrete import Example, InvalidInput, LimitExceeded, NotFound, NotLearned, Unavailable
from accrete._calls.folder import find_images, read_table


def _examples(count: int) -> list[tuple[str, bytes]]:
    return [("cat", bytes([n % 256, n // 256, 1])) for n in range(count)]


def test_all_forms_of_an_example_are_taken(client, state, image):
    report = client.add_examples(
        [("cat", image), ("dog", b"b", "my-id"), Example("heron", b"c", metadata={"camera": "2"})]
    )
    assert (report.stored, report.duplicates, report.refused) == (3, 0, [])
    assert report.ids[1] == "my-id"
    assert [state.examples[id].label for id in report.ids] == ["cat", "dog", "heron"]
    assert dict(state.examples[report.ids[2]].metadata) == {"camera": "2"}


def test_any_iterable_is_sent_in_batches_as_it_comes(client, state):
    seen = []

    def generated() -> Iterator[tuple[str, bytes]]:
        for example in _examples(150):
            seen.append(len(state.requests("AddExamples")))
            yield example

    report = client.add_examples(generated(), batch_size=50)
    assert report.stored == 150
    assert [len(request.examples) for request in state.requests("AddExamples")] == [50, 50, 50]
    assert seen[-1] == 2  # the first batches were sent before the last examples were made


def test_batches_are_split_by_bytes_too(client, state):
    client.add_examples([("cat", bytes(12 * 1024 * 1024), str(n)) for n in range(5)])
    assert [len(request.examples) for request in state.requests("AddExamples")] == [2, 2, 1]


def test_a_batch_is_halved_while_the_server_says_that_it_is_too_much(client, state):
    state.max_batch = 10
    report = client.add_examples(_examples(64))
    assert report.stored == 64
    assert len(set(report.ids)) == 64


def test_an_example_too_large_for_any_message_is_refused_and_the_others_are_stored(client):
    report = client.add_examples([("cat", b"a"), ("cat", bytes(65 * 1024 * 1024)), ("cat", b"b")])
    assert report.stored == 2
    assert [(one.index, one.code) for one in report.refused] == [(1, "RESOURCE_EXHAUSTED")]


def test_the_same_again_stores_nothing_twice(client, state):
    first = client.add_examples(_examples(10))
    again = client.add_examples(_examples(10))
    assert (again.stored, again.duplicates) == (0, 10)
    assert again.ids == first.ids
    assert len(state.examples) == 10


def test_a_lost_answer_is_asked_for_again_and_stores_nothing_twice(client, state):
    state.fail("AddExamples", grpc.StatusCode.UNAVAILABLE, late=True, times=2)
    report = client.add_examples(_examples(10))
    assert report.stored + report.duplicates == 10
    assert len(state.examples) == 10
    assert len(state.requests("AddExamples")) == 3


def test_one_bad_image_is_refused_with_the_reason_and_the_others_are_stored(client, tmp_path):
    report = client.add_examples(
        [("cat", b"a"), ("cat", b"bad"), ("cat", tmp_path / "gone.png"), ("cat", np.zeros((2, 2))), ("cat", b"b")]
    )
    assert report.stored == 2
    assert [one.index for one in report.refused] == [1, 2, 3]
    assert [one.code for one in report.refused] == ["INVALID_ARGUMENT"] * 3
    assert report.refused[0].reason == "image: not an image"
    assert "No such file" in report.refused[1].reason
    assert report.refused[1].source == str(tmp_path / "gone.png")


@pytest.mark.parametrize("wrong", [{"label": "\udcff"}, {"label": 7}, {"metadata": {"day": 3}}, {"id": 3}])
def test_text_that_cannot_be_sent_is_refused_alone(client, wrong):
    report = client.add_examples([("cat", b"x"), Example(**{"label": "cat", "image": b"a", **wrong})])
    assert report.stored == 1
    assert [one.code for one in report.refused] == ["INVALID_ARGUMENT"]


@pytest.mark.parametrize("label", [7, np.int64(7), 7.0, None, True])
def test_a_label_that_is_no_text_is_refused_alone_and_told_that_labels_are_text(client, label):
    report = client.add_examples([("cat", b"x"), (label, b"a"), Example(label, b"b"), ("cat", b"y")])
    assert report.stored == 2
    assert [one.index for one in report.refused] == [1, 2]
    assert all("labels are text" in one.reason for one in report.refused)


class _Damaged:
    """What can do as a Pillow image can, and raises when its pixels are asked for."""

    mode, size = "RGB", (4, 4)

    def __init__(self, error: Exception) -> None:
        self._error = error

    def convert(self, mode: str):
        return self

    def getexif(self):
        raise self._error

    def save(self, fp, format=None, **params):
        raise self._error


@pytest.mark.parametrize(
    "error", [struct.error("unpack requires a buffer"), KeyError("Exif"), IndexError(), MemoryError(), SyntaxError("x")]
)
def test_whatever_decoding_raises_refuses_one_example_alone(client, error):
    report = client.add_examples([("cat", b"x"), ("cat", _Damaged(error)), ("cat", b"y")])
    assert report.stored == 2
    assert [(one.index, one.code) for one in report.refused] == [(1, "INVALID_ARGUMENT")]
    assert f"cannot be read: {type(error).__name__}" in report.refused[0].reason


def test_a_damaged_array_or_an_absurd_path_refuses_one_example_alone(client, tmp_path):
    whole = io.BytesIO()
    np.save(whole, np.zeros((2, 2), np.uint8))
    many = io.BytesIO()
    np.savez(many, a=np.zeros(2))
    files = {
        "large": whole.getvalue().replace(b"(2, 2), }", b"(9" + b"9" * 14 + b",), }"),
        "header": whole.getvalue().replace(b"'descr'", b"'descr"),
        "nothing": b"",
        "several": many.getvalue(),
        "short": whole.getvalue()[:9],
    }
    for name, content in files.items():
        (tmp_path / f"{name}.npy").write_bytes(content)
    given = [("cat", tmp_path / f"{name}.npy") for name in files] + [("cat", "a\0b.png"), ("cat", tmp_path)]
    report = client.add_examples([*given, ("cat", b"x")])
    assert report.stored == 1
    assert [one.index for one in report.refused] == list(range(len(given)))


def test_a_mistake_in_the_callers_own_program_is_not_swallowed(client):
    def examples() -> Iterator[tuple[str, bytes]]:
        yield "cat", b"x"
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        client.add_examples(examples())


def test_an_id_with_other_content_is_refused(client):
    report = client.add_examples([("cat", b"a", "one"), ("cat", b"b", "one")])
    assert report.ids == ["one"]
    assert [(one.id, one.code) for one in report.refused] == [("one", "ALREADY_EXISTS")]


@pytest.mark.parametrize("given", ["cat", ("cat",), (b"a", "cat"), {"label": "cat"}])
def test_what_is_no_example_at_all_is_a_mistake_in_the_program(client, given):
    with pytest.raises(InvalidInput, match="example 1 is"):
        client.add_examples([("cat", b"a"), given])


def test_a_full_pending_budget_is_waited_for_as_the_server_says(client, state):
    state.fail("AddExamples", grpc.StatusCode.RESOURCE_EXHAUSTED, retry_after_ms=20, times=2)
    assert client.add_examples(_examples(3)).stored == 3
    assert len(state.requests("AddExamples")) == 3


def test_a_wait_that_would_outlast_the_deadline_is_not_begun(client, state):
    state.fail("AddExamples", grpc.StatusCode.RESOURCE_EXHAUSTED, details="pending is full", retry_after_ms=60_000)
    with pytest.raises(LimitExceeded, match="pending is full") as caught:
        client.add_examples(_examples(3), timeout=5)
    assert caught.value.retry_after == 60.0
    assert len(state.requests("AddExamples")) == 1


def test_a_store_that_stays_away_is_reported_when_the_time_is_up(client, state):
    state.fail("AddExamples", grpc.StatusCode.UNAVAILABLE, details="the store does not answer", times=1000)
    with pytest.raises(Unavailable, match="the store does not answer") as caught:
        client.add_examples(_examples(3), timeout=0.3)
    assert caught.value.attempts > 1
    assert not state.examples


def test_a_folder_is_taught_with_its_folders_as_labels(client, state, tmp_path):
    for name in ("heron/a.png", "heron/deeper/b.JPG", "cat/c.webp", "cat/notes.txt", ".hidden/d.png", "top.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    calls = []
    report = client.add_folder(tmp_path, progress=lambda done, total: calls.append((done, total)), batch_size=2)
    assert report.stored == 3
    stored = [(example.label, example.image.encoded) for example in state.examples.values()]
    assert stored == [("cat", b"cat/c.webp"), ("heron", b"heron/a.png"), ("heron", b"heron/deeper/b.JPG")]
    assert calls == [(0, 3), (2, 3), (3, 3)]


def _tree(root: pathlib.Path, *names: str) -> pathlib.Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return root


def test_what_is_hidden_or_no_image_is_passed_over_and_counted(client, state, tmp_path):
    names = ["cat/a.png", "cat/.b.png", "cat/.git/c.png", "cat/.thumbnails/d/e.jpg", ".trash/f.png", "__MACOSX/g.png"]
    names += ["cat/Thumbs.db", "cat/h.gif", "cat/i.TIF", "cat/j.tif", "cat/k.txt", "cat/README", "top.png", "notes.txt"]
    names += ["cat/l.jfif", "cat/m.HEIC", "cat/n.avif", "cat/deep/o.jpe"]
    _tree(tmp_path, *names)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "cat" / "linked").symlink_to(tmp_path / "elsewhere")
    report = client.add_folder(tmp_path)
    stored = {example.image.encoded.decode() for example in state.examples.values()}
    assert stored == {"cat/a.png", "cat/l.jfif", "cat/m.HEIC", "cat/n.avif", "cat/deep/o.jpe"}
    assert report.skipped == {
        "hidden folder": 4,
        "hidden file": 2,
        ".gif file, a format that is not read": 1,
        ".tif file, a format that is not read": 2,
        ".txt file, no image": 2,
        "file without a suffix": 1,
        f"image directly in {tmp_path.name}, in no folder that names its label": 1,
        "link to a folder": 1,
    }


def test_a_folder_name_in_decomposed_unicode_is_a_composed_label(client, state, tmp_path):
    _tree(tmp_path, "cafe\u0301/a.png", "caf\u00e9/b.png")
    assert client.add_folder(tmp_path).stored == 2
    assert {example.label for example in state.examples.values()} == {"caf\u00e9"}
    (warning,) = find_images(tmp_path).warnings
    assert "1 folder names were brought into Unicode's form NFC" in warning


def test_folders_within_label_folders_are_warned_of(tmp_path):
    _tree(tmp_path, "Fruit/apple/a.png", "Fruit/pear/b.png", "Vegetables/leek/c.png", "Bread/d.png", "Bread/e/n.txt")
    found = find_images(tmp_path)
    assert found.labels == {"Bread": 1, "Fruit": 2, "Vegetables": 1}
    (warning,) = found.warnings
    assert "3 folders with images stand within" in warning
    assert "Fruit/apple" in warning
    assert "Bread" not in warning


def test_what_was_passed_over_is_told_where_no_image_is_left(client, tmp_path):
    with pytest.raises(InvalidInput, match="passed over: 2 x .gif file"):
        client.add_folder(_tree(tmp_path, "cat/a.gif", "cat/b.gif"))


@pytest.mark.parametrize(
    "text",
    [
        "file,label\na.png,cat\nb/c.png,dog\n",
        "a.png,cat\n\nb/c.png,dog",
        "\ufeffid,Label,Path\n1,cat,a.png\n2,dog,b/c.png",
        "file;label\r\na.png;cat\r\nb/c.png;dog\r\n",
        "a.png\tcat\nb/c.png\tdog\n",
        '\nfile,note,label\na.png,"two\nlines; with\u2028all, that",cat\nb/c.png,x,dog\n',
        "utf-16:file\tlabel\r\na.png\tcat\r\nb/c.png\tdog\r\n",
    ],
)
def test_a_table_names_files_and_labels(tmp_path, text):
    wide = text.startswith("utf-16:")
    (tmp_path / "labels.csv").write_bytes(text.removeprefix("utf-16:").encode("utf-16" if wide else "utf-8"))
    found = read_table(tmp_path / "labels.csv")
    assert [(one.label, one.image) for one in found.examples] == [
        ("cat", tmp_path / "a.png"),
        ("dog", tmp_path / "b/c.png"),
    ]


def test_a_label_in_a_table_keeps_all_of_its_characters_and_lines_are_counted_as_an_editor_does(tmp_path):
    (tmp_path / "labels.csv").write_text('file,label\na.png,"a\u2028b\x0bc"\n"b\n.png",cat\nc.png,\n', "utf-8")
    with pytest.raises(InvalidInput, match="line 5"):
        read_table(tmp_path / "labels.csv")
    (tmp_path / "labels.csv").write_text('file,label\na.png,"a\u2028b\x0bc"\n', "utf-8")
    assert [one.label for one in read_table(tmp_path / "labels.csv").examples] == ["a\u2028b\x0bc"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "no line"), (b"a.png", "line 1"), (b"file,label\n,cat", "line 2"), (b"\xff,a", "UTF-8")],
)
def test_a_table_that_names_none_is_refused_by_line(tmp_path, content, reason):
    (tmp_path / "labels.csv").write_bytes(content)
    with pytest.raises(InvalidInput, match=reason):
        read_table(tmp_path / "labels.csv")


@pytest.mark.parametrize("name", ["empty", "missing"])
def test_a_folder_without_images_is_refused_by_name(client, tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInput, match=name):
        client.add_folder(tmp_path / name)


def test_a_file_in_place_of_a_folder_is_told_what_to_do(client, tmp_path):
    (tmp_path / "heron.png").write_bytes(b"heron")
    with pytest.raises(InvalidInput, match=r"heron\.png: a file; .*label"):
        client.add_folder(tmp_path / "heron.png")


def test_waiting_ends_with_the_version_that_knows_the_examples(client, state):
    ids = client.add_examples(_examples(5)).ids
    state.learn(ids)
    assert client.wait_learned(ids) == 2
    assert client.wait_learned([]) == 0
    with pytest.raises(InvalidInput, match="a list of ids"):
        client.wait_learned(ids[0])


def test_waiting_goes_on_through_an_outage(client, state):
    ids = client.add_examples(_examples(5)).ids
    state.fail("WaitLearned", grpc.StatusCode.UNAVAILABLE, times=3)
    state.learn(ids)
    assert client.wait_learned(ids) == 2


def test_what_is_not_learned_in_time_is_named(client, state):
    ids = client.add_examples(_examples(5)).ids
    state.learn(ids[:3])
    with pytest.raises(NotLearned) as caught:
        client.wait_learned(ids, timeout=0.1)
    assert caught.value.waiting == tuple(ids[3:])
    assert caught.value.version == 2
    assert isinstance(caught.value, TimeoutError)


def test_more_ids_than_a_call_takes_are_waited_for_in_parts(client, state):
    ids = [str(n) for n in range(10_001)]
    state.examples.update(dict.fromkeys(ids))
    state.learn(ids)
    assert client.wait_learned(ids) == 2
    assert [len(request.ids) for request in state.requests("WaitLearned")] == [10_000, 1]


def test_an_id_that_was_never_added_is_not_waited_for(client):
    with pytest.raises(NotFound, match="never"):
        client.wait_learned(["never"])
