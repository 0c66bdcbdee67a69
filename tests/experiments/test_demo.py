"""The demonstration runs by itself from start to end."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from accrete.cli import main
from accrete_experiments.demo.data import DataError, digits, folder, groups, input_size
from accrete_experiments.demo.options import DemoOptions
from accrete_experiments.demo.run import run
from accrete_experiments.live.display import Display
from benchmarks.waiting import until
from tests.support.extras import LIGHT_LACKS, without
from tests.support.priority import FULL_PRIORITY

pytestmark = pytest.mark.integration


def processes_of(folder: Path) -> list[str]:
    """Command lines of processes that name a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(folder) in line:
                found.append(line)
    return found


def command(*arguments: str | Path | int) -> list[str]:
    return [sys.executable, "-m", "accrete", "demo", *map(str, arguments)]


def test_something_is_seen_while_nothing_is_told():
    seen = io.StringIO()
    display = Display(Console(file=seen, force_terminal=True, width=100))
    with display.live():
        display.busy("starting the processes")
        display._progress.refresh()
        display.busy("step: training")
        display._progress.refresh()
        display.step("train", 3, 20, 0.5)
        display._progress.refresh()
        display.step_over()
        display.step_over()
    for text in ("starting the processes", "step: training", "step: train ", "3/20", "loss 0.500"):
        assert text in seen.getvalue()


def test_a_short_demonstration_on_digits_ends_with_all_figures(tmp_path: Path):
    summary = tmp_path / "summary.json"
    ended = subprocess.run(
        command("--keep", tmp_path / "data", "--summary", summary, "--epochs", 1, "--base-epochs", 1, "--idle", 1),
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | FULL_PRIORITY,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    figures = json.loads(summary.read_text())
    assert [version["classes"] for version in figures["versions"]] == [4, 6, 8, 10]
    assert {"version", "classes", "accuracy", "accuracy_old", "accuracy_new", "seconds"} <= figures["versions"][
        0
    ].keys()
    for name in ("predict_p50_ms", "predict_p99_ms"):
        assert figures[name].keys() == {"idle", "learning"}
        assert all(value > 0 for value in figures[name].values())
    assert figures["predicts_failed"] == 0, figures["errors"]
    assert figures["predicts_ok"] > 0
    assert figures["swaps"] == 4
    assert 0 <= figures["final_accuracy"] <= 1
    assert not (tmp_path / "data" / "server.json").exists()
    assert processes_of(tmp_path / "data") == []


def test_photographs_are_learned_at_once_and_shown_where_only_the_light_extra_is_installed(tmp_path: Path):
    generator = np.random.default_rng(0)
    for colour, label in enumerate(("red", "green", "blue")):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(6):  # a bright blot on noise, of many sizes
            height, width = generator.integers(40, 90, 2)
            image = generator.integers(0, 60, (height, width, 3), np.uint8)
            image[height // 4 : -height // 4, width // 4 : -width // 4, colour] += 180
            Image.fromarray(image).save(tmp_path / "photos" / label / f"{number}.png")
    summary = tmp_path / "summary.json"
    flags = ("--first", 2, "--per-step", 1, "--input-size", 64, "--idle", 1, "--summary", summary)
    process = subprocess.Popen(
        command("--data", tmp_path / "photos", "--page", *flags),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | FULL_PRIORITY | without(LIGHT_LACKS),
    )
    assert process.stdout is not None
    told = ""
    try:
        for line in process.stdout:
            told += line
            if "until Ctrl-C" in line:
                break
        (address,) = re.findall(r"the page is at (\S+)", told)
        with urllib.request.urlopen(f"{address}api/now") as response:
            assert json.load(response)["status"]["classes"] == 3
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 0, told
    assert "method analytic, efficientnet_lite0 at uint8 [64, 64, 3]" in told
    figures = json.loads(summary.read_text())
    assert [version["classes"] for version in figures["versions"]] == [2, 3]
    assert figures["final_accuracy"] == 1.0
    assert (figures["predicts_failed"], figures["errors"]) == (0, [])


def test_the_digits_say_what_they_need(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert run(DemoOptions()) == 2
    assert 'PyTorch and scikit-learn (pip install "accrete[server]"); --data DIR' in capsys.readouterr().err


def test_an_interrupted_demonstration_leaves_nothing_running(tmp_path: Path):
    process = subprocess.Popen(command("--keep", tmp_path), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        until((tmp_path / "server.json").exists, "the server")
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 130, output.decode()
        assert processes_of(tmp_path) == []
    finally:
        process.kill()


def test_an_unknown_method_is_refused_with_status_2(capsys: pytest.CaptureFixture[str]):
    assert main(["demo", "--method", "magic"]) == 2
    assert "method.name = 'magic'" in capsys.readouterr().err


def test_the_digits_keep_a_stratified_third_aside():
    data = digits(seed=3)
    assert len(data.train.labels) + len(data.test.labels) == 1797
    assert abs(len(data.test.labels) - 599) <= 1
    share = {label: list(data.test.labels).count(label) / 599 for label in data.classes}
    assert all(0.08 < part < 0.12 for part in share.values())
    first = data.train.images[0]
    assert isinstance(first, np.ndarray)
    assert first.shape == (8, 8)


def test_a_tree_of_folders_is_read_with_or_without_a_test_part(tmp_path: Path):
    for part in ("train", "test"):
        for label in "abc":
            target = tmp_path / part / label
            target.mkdir(parents=True)
            for number in range(6):
                Image.fromarray(np.full((9, 9, 3), number, np.uint8)).save(target / f"{number}.png")
    both = folder(tmp_path, seed=1, limit=None)
    assert (len(both.train.labels), len(both.test.labels)) == (18, 18)
    split = folder(tmp_path / "train", seed=1, limit=2)
    assert len(split.classes) == 2
    assert (len(split.train.labels), len(split.test.labels)) == (8, 4)
    for images in (split.train, split.test):
        assert set(images.labels) == set(split.classes)
    assert not set(split.train.images) & set(split.test.images)
    with pytest.raises(DataError, match="no folder with images"):
        folder(tmp_path / "train" / "a", seed=1, limit=None)
    for number in range(1, 6):
        (tmp_path / "train" / "b" / f"{number}.png").unlink()
    with pytest.raises(DataError, match="b: one image alone"):
        folder(tmp_path / "train", seed=1, limit=None)


def test_of_a_folder_is_taken_what_add_takes_and_the_rest_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for name in ("a", "b", ".thumbnails", "a/.cache", "a/deep"):
        (tmp_path / name).mkdir(parents=True)
        for number in range(3):
            Image.fromarray(np.full((9, 9, 3), number, np.uint8)).save(tmp_path / name / f"{number}.png")
    (tmp_path / "a" / "0.gif").write_bytes(b"GIF89a")
    (tmp_path / "a" / "0.jpg").write_bytes(b"no image")
    found = folder(tmp_path, seed=1, limit=None)
    assert sorted(found.classes) == ["a", "b"]
    assert len(found.train.labels) + len(found.test.labels) == 10
    assert input_size(found) == 8
    err = capsys.readouterr().err
    assert "2 x hidden folder" in err
    assert "1 x .gif file, a format that is not read" in err
    assert "folders with images stand within the label folders" in err


def test_classes_come_in_groups():
    assert groups(list("abcdefg"), 3, 2) == [["a", "b", "c"], ["d", "e"], ["f", "g"]]
    assert groups(list("ab"), 4, 2) == [["a", "b"]]
    assert groups(list("abcde"), 2, 2) == [["a", "b"], ["c", "d"], ["e"]]
