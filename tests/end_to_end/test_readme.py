"""The README and the tutorial say what is true: their blocks are run, in their order, as a reader would."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from accrete import Client
from accrete.cli.app import SECTIONS
from benchmarks.waiting import free_port
from tests.support.priority import FULL_PRIORITY

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "docs/tutorial.md"]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)

RUN_ELSEWHERE = {
    'pip install -e ".[server]" && accrete demo': "tests/experiments/test_demo.py, in this installation",
    'pip install -e ".[server,test]" && pytest': "this is that run",
    "accrete bench protocol --data cifar100:data --methods lucir,icarl --base 50 --step 5 --figures --out b50": (
        "tests/end_to_end/test_bench.py, on data that is there"
    ),
}
"""Commands that are not run again, and where they are."""


each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)


@each_document
def test_every_kind_of_block_is_known(document: Path):
    assert {kind for kind, _ in BLOCK.findall(document.read_text())} <= {"sh", "python", "text"}


@each_document
def test_every_command_of_the_command_line_is_one_that_exists(document: Path):
    known = {name for entries in SECTIONS.values() for name in entries}
    named = set(re.findall(r"`accrete (\w+)", document.read_text()))
    assert named <= known, f"commands that do not exist: {named - known}"


@each_document
def test_its_blocks_run_in_their_order(document: Path, tmp_path: Path):
    port = free_port()
    environment = os.environ | FULL_PRIORITY
    environment |= {
        "ACCRETE_ADDRESS": f"127.0.0.1:{port}",
        "ACCRETE_SERVER__PORT": str(port),
        "ACCRETE_SERVER__METRICS_PORT": "0",
        "ACCRETE_LEARNER__METRICS_PORT": "0",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    up: subprocess.Popen[bytes] | None = None
    try:
        for kind, text in BLOCK.findall(document.read_text()):
            if kind == "python":
                run([sys.executable, "-c", text], tmp_path, environment)
            for line in text.splitlines() if kind == "sh" else []:
                if line in RUN_ELSEWHERE:
                    continue
                program, *arguments = shlex.split(line)
                assert program == "accrete", f"a command that this test does not know: {line}"
                command = [sys.executable, "-m", "accrete", *arguments]
                if arguments[0] == "up":
                    up = subprocess.Popen(command, cwd=tmp_path, env=environment)
                    with Client(environment["ACCRETE_ADDRESS"]) as client:
                        client.wait_ready(300)  # a reader sees in that terminal when it serves
                else:
                    run(command, tmp_path, environment)
        assert up is not None, "the document starts no server"
    finally:
        if up is not None:
            up.terminate()
            assert up.wait(300) == 0


def run(command: list[str], folder: Path, environment: dict[str, str]) -> None:
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=850)
    assert ended.returncode == 0, f"{command}\n{ended.stdout}\n{ended.stderr}"
    print(ended.stdout)
