"""Measuring on images kept aside: every figure, by hand and over the wire."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import threading
from pathlib import Path

import grpc
import pytest

from accrete import AsyncClient, Client, Evaluation, InvalidInput, LimitExceeded, NoModel, Share
from accrete._evaluation import Evaluator
from accrete.cli import exits, main
from accrete.v1 import operation_pb2 as op
from accrete.v1 import prediction_pb2 as pr
from accrete.v1 import types_pb2 as ty
from tests.clients.memory_server import MemoryServer, State

CAT, DOG, OWL = (
    op.ClassInfo(label="cat", state=ty.LEARNED),
    op.ClassInfo(label="dog", state=ty.LEARNED),
    op.ClassInfo(label="owl", state=ty.PROVISIONAL),
)


def answer(
    label: str, probability: float, *, unknown: bool = False, provisional: bool = False
) -> pr.PredictResponse.ImagePrediction:
    ranked = pr.RankedLabel(label=label, probability=probability, provisional=provisional)
    return pr.PredictResponse.ImagePrediction(labels=[ranked], unknown=unknown)


@pytest.fixture
def kept_aside(tmp_path: Path, state: State) -> Path:
    """Images whose answers are known."""
    state.classes = [CAT, DOG, OWL, op.ClassInfo(label="eel", state=ty.LEARNED), op.ClassInfo(label="ant")]
    answers = {
        "cat/a.png": answer("cat", 0.95),
        "cat/b.png": answer("cat", 0.55),
        "cat/c.png": answer("dog", 0.75),
        "cat/d.png": answer("dog", 0.95),
        "dog/a.png": answer("dog", 0.95),
        "dog/b.png": answer("cat", 0.35, unknown=True),
        "owl/a.png": answer("owl", 0.85, provisional=True),
        "moth/a.png": answer("owl", 0.45, unknown=True),
        "moth/b.png": answer("owl", 0.85),
        "ant/a.png": answer("cat", 0.25),
    }
    root = tmp_path / "kept aside"
    for name, one in answers.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
        state.answers[name.encode()] = one
    (root / "cat" / "notes.txt").touch()
    return root


def test_every_figure_is_what_the_answers_add_up_to(client: Client, kept_aside: Path):
    found = client.evaluate(kept_aside, worst=2)
    assert found.versions == (1,)
    assert found.all == Share(right=4, images=7)
    assert found.classes == {
        "cat": Share(right=2, images=4),
        "dog": Share(right=1, images=2),
        "owl": Share(right=1, images=1),
    }
    assert [(one.label, one.answer, one.images) for one in found.confusions] == [("cat", "dog", 2), ("dog", "cat", 1)]
    # By bin: 0.35 wrong; 0.55 right; 0.75 wrong; 0.85 right; three of 0.95, two of them right.
    wanted = (0.35 + 0.45 + 0.75 + 0.15 + abs(3 * 0.95 - 2)) / 7
    assert found.calibration_error == pytest.approx(wanted, abs=1e-6)
    assert [one.answers.images for one in found.calibration] == [0, 0, 0, 1, 0, 1, 0, 1, 1, 3]
    assert found.calibration[9].probability == pytest.approx(0.95)
    assert (found.calibration[9].above, found.calibration[9].up_to) == (0.9, 1.0)
    assert found.calibration[0].probability is None
    assert (found.unknown, found.provisional, found.threshold, found.doubted) == (1, 1, 0.8, 4)
    assert found.undoubted == Share(right=2, images=3)
    assert [(Path(one.file).parent.name, Path(one.file).name, one.answer) for one in found.worst] == [
        ("cat", "d.png", "dog"),
        ("cat", "c.png", "dog"),
    ]
    assert (found.strangers, found.strangers_unknown, found.strangers_doubted) == ({"ant": 1, "moth": 2}, 1, 2)
    assert found.unmeasured == ("eel",)
    assert found.skipped == {".txt file, no image": 1}
    assert found.refused == ()


def test_the_threshold_is_the_callers(client: Client, kept_aside: Path):
    found = client.evaluate(kept_aside, threshold=0.5)
    assert (found.threshold, found.doubted, found.undoubted) == (0.5, 2, Share(right=3, images=5))


def test_wilsons_interval_is_that_of_the_textbooks():
    assert list(Share(right=8, images=10).interval) == pytest.approx([0.4902, 0.9433], abs=1e-4)
    assert list(Share(right=11, images=11).interval) == pytest.approx([0.7412, 1.0], abs=1e-4)
    assert Share(right=0, images=0).interval == (0.0, 1.0)
    assert Share(right=0, images=0).value is None


def test_any_number_of_images_is_sent_by_several_calls_at_a_time(client: Client, state: State, tmp_path: Path):
    folder = tmp_path / "photos" / "cat"
    folder.mkdir(parents=True)
    for number in range(150):
        (folder / f"{number}.png").write_bytes(b"x" * (number + 1))
    seen: list[tuple[int, int]] = []
    found = client.evaluate(tmp_path / "photos", progress=lambda done, total: seen.append((done, total)))
    assert found.all == Share(right=150, images=150)
    assert sorted(len(request.images) for request in state.requests("Predict")) == [17] + 7 * [19]
    assert seen == [(done, 150) for done in (0, *range(19, 150, 19), 150, 150)]


def test_images_that_cannot_be_used_are_named_and_the_others_measured(client: Client, kept_aside: Path):
    (kept_aside / "dog" / "broken.png").write_bytes(b"bad")
    (kept_aside / "dog" / "gone.png").symlink_to("nowhere.png")
    (kept_aside / "dog" / "odd.npy").write_bytes(b"no array")
    found = client.evaluate(kept_aside)
    refused = {Path(one.file).name: (one.label, one.reason) for one in found.refused}
    assert refused.keys() == {"broken.png", "gone.png", "odd.npy"}
    assert refused["broken.png"] == ("dog", "not an image")
    assert found.all.images == 7


def test_an_image_that_is_too_much_alone_is_refused_and_an_overload_is_not(
    client: Client, server: MemoryServer, kept_aside: Path, state: State
):
    state.max_images = 0
    assert len(client.evaluate(kept_aside).refused) == 10
    state.max_images = 64
    state.fail("Predict", grpc.StatusCode.RESOURCE_EXHAUSTED, times=100, retry_after_ms=1)
    with Client(server.address, retry=None) as once, pytest.raises(LimitExceeded):
        once.evaluate(kept_aside)


def test_a_version_that_goes_live_meanwhile_is_told(client: Client, state: State, tmp_path: Path, monkeypatch):
    folder = tmp_path / "photos" / "cat"
    folder.mkdir(parents=True)
    for number in range(65):
        (folder / f"{number}.png").write_bytes(b"x" * (number + 1))
    versions = itertools.chain([1], itertools.repeat(2))  # one call is answered by the first, the others by the second
    monkeypatch.setattr(State, "version", property(lambda self: next(versions)), raising=False)
    assert client.evaluate(tmp_path / "photos").versions == (1, 2)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ({"threshold": 1.5}, "threshold = 1.5: 0 to 1"),
        ({"threshold": math.nan}, "threshold = nan"),
        ({"unknown_rate": 0.6}, "unknown_rate = 0.6: 0 to 0.5"),
        ({"worst": -1}, "worst = -1"),
    ],
)
def test_parameters_out_of_range_are_refused_before_anything_is_sent(client, kept_aside, state, what, said):
    with pytest.raises(InvalidInput, match=said):
        client.evaluate(kept_aside, **what)
    assert not state.calls


def test_a_folder_without_images_and_a_server_without_a_model_are_told(client: Client, state: State, tmp_path: Path):
    with pytest.raises(InvalidInput, match="no folder with images"):
        client.evaluate(tmp_path)
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "a.png").write_bytes(b"a")
    state.fail("Predict", grpc.StatusCode.FAILED_PRECONDITION)
    with pytest.raises(NoModel):
        client.evaluate(tmp_path)


def test_the_asyncio_client_finds_the_same(client: Client, server, kept_aside: Path):
    async def evaluate() -> Evaluation:
        async with AsyncClient(server.address, timeout=20) as other:
            return await other.evaluate(kept_aside)

    assert asyncio.run(evaluate()) == client.evaluate(kept_aside)


def test_no_image_of_a_known_label_is_no_accuracy():
    found = Evaluator(["cat"], threshold=0.8, worst=3).result([], {})
    assert (found.all.value, found.calibration_error, found.undoubted.value) == (None, None, None)
    assert (found.versions, found.unmeasured) == ((), ("cat",))


def test_eval_tells_people(kept_aside: Path, server, monkeypatch, capsys):
    monkeypatch.setenv("ACCRETE_ADDRESS", server.address)
    assert main(["eval", str(kept_aside)]) == exits.OK
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "version 1: 4 of 7 (57.1 %) right, 25.0 to 84.2 % with 95 % confidence"
    assert lines[2] == "called unknown: 1 of 7 (14.3 %); provisional: 1"
    assert lines[3] == (
        "doubtful (unknown, provisional or below 0.8): 4 of 7 (57.1 %); "
        "of the others 2 of 3 (66.7 %) right, 20.8 to 93.9 % with 95 % confidence"
    )
    assert lines[4] == (
        "labels that the model does not know: ant (1), moth (2); of these 3 images 1 are called unknown, 2 are doubtful"
    )
    assert lines[5] == "labels without an image here: eel"
    assert lines[6] == "passed over: 1 x .txt file, no image"
    words = [line.split() for line in lines]
    assert ["cat", "4", "2", "50.0", "%", "15", "to", "85", "%"] in words
    assert ["cat", "dog", "2"] in words
    assert [*str(kept_aside / "cat/d.png").split(), "cat", "dog", "0.9500"] in words


def test_eval_prints_json_and_ends_with_1_when_an_image_was_refused(kept_aside: Path, server, monkeypatch, capsys):
    monkeypatch.setenv("ACCRETE_ADDRESS", server.address)
    (kept_aside / "dog" / "broken.png").write_bytes(b"bad")
    assert main(["eval", str(kept_aside), "--json", "--worst", "1", "--threshold", "0.5"]) == exits.FAILED
    found = json.loads(capsys.readouterr().out)
    assert (found["all"]["right"], found["all"]["images"]) == (4, 7)
    assert found["all"]["accuracy"] == pytest.approx(4 / 7)
    assert found["all"]["interval"] == [pytest.approx(0.2505, abs=1e-3), pytest.approx(0.8418, abs=1e-3)]
    assert found["classes"]["owl"]["accuracy"] == 1.0
    assert found["confusions"][0] == {"label": "cat", "answer": "dog", "images": 2}
    assert [one["answer"] for one in found["worst"]] == ["dog"]
    assert found["refused"][0]["reason"] == "not an image"
    assert found["threshold"] == 0.5


def test_counting_does_not_depend_on_threads_of_the_caller(client: Client, kept_aside: Path):
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(client.evaluate(kept_aside))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all(one == found[0] for one in found)
