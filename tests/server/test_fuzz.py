"""Some of what `benchmarks.fuzz` sends, always the same: the node goes on answering correctly."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.fuzz import fuzz
from benchmarks.hostile.requests import hostile

pytestmark = pytest.mark.integration


def test_hostile_requests_get_documented_errors_and_leave_the_node_as_it_was(tmp_path: Path) -> None:
    rows, found = fuzz(tmp_path, 7, range(800))
    assert found.faults == []
    assert [row.name for row in rows if row.ok is False] == []
    kinds = {kind for kind, _ in found.codes}
    assert len(kinds) >= 11
    assert {code for _, code in found.codes} >= {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED", "CANCELLED"}


def test_a_request_can_be_made_again_from_its_seed_and_number() -> None:
    code = "from benchmarks.hostile.requests import hostile; print([hostile(3, number) for number in range(200)])"
    elsewhere = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert str([hostile(3, number) for number in range(200)]) == elsewhere.strip()
    assert hostile(3, 0) != hostile(4, 0) or hostile(3, 1) != hostile(4, 1)
