"""The README says what is true: its blocks are run, in their order, as a reader would."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from accrete.cli.app import SECTIONS
from accrete_node.describe import render
from accrete_node.settings import load_settings
from benchmarks.node import free_port

README = Path(__file__).resolve().parents[2] / "README.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)

RUN_ELSEWHERE = {
    'pip install -e ".[server]" && accrete demo': "tests/experiments/test_demo.py, in this installation",
    'pip install -e ".[server,test]" && pytest': "this is that run",
    "accrete bench protocol --data cifar100:data --methods lucir,icarl --base 50 --step 5 --figures --out b50": (
        "tests/end_to_end/test_bench.py, on data that is there"
    ),
}
"""Commands that are not run again, and where they are."""


def blocks(kind: str) -> list[str]:
    return [text for found, text in BLOCK.findall(README.read_text()) if found == kind]


def test_every_kind_of_block_is_known():
    assert {kind for kind, _ in BLOCK.findall(README.read_text())} <= {"sh", "python", "toml", "text"}


def test_the_configuration_is_the_one_that_is_printed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("ACCRETE_")]:
        monkeypatch.delenv(name)
    (printed,) = blocks("toml")
    assert printed == render(load_settings({}), explained=True), "put `accrete up --print-config` into the README"


def test_every_command_of_the_command_line_is_one_that_exists():
    known = {name for entries in SECTIONS.values() for name in entries}
    named = set(re.findall(r"`accrete (\w+)", README.read_text()))
    assert named <= known, f"the README names commands that do not exist: {named - known}"


@pytest.mark.timeout(400)
def test_its_blocks_run_in_their_order(tmp_path: Path):
    port = free_port()
    environment = os.environ | {
        "ACCRETE_ADDRESS": f"127.0.0.1:{port}",
        "ACCRETE_SERVER__PORT": str(port),
        "ACCRETE_SERVER__METRICS_PORT": "0",
        "ACCRETE_LEARNER__METRICS_PORT": "0",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    up: subprocess.Popen[bytes] | None = None
    try:
        for kind, text in BLOCK.findall(README.read_text()):
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
                else:
                    run(command, tmp_path, environment)
        assert up is not None, "the README starts no server"
    finally:
        if up is not None:
            up.terminate()
            assert up.wait(30) == 0


def run(command: list[str], folder: Path, environment: dict[str, str]) -> None:
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=350)
    assert ended.returncode == 0, f"{command}\n{ended.stdout}\n{ended.stderr}"
    print(ended.stdout)
