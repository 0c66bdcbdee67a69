"""What the tests of the learner's process share."""

from __future__ import annotations

import os
import sys

import pytest


@pytest.fixture(autouse=True)
def _children_import_the_same_tree(monkeypatch: pytest.MonkeyPatch):
    """Processes that a test starts see the packages that the test sees, installed or not."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
