"""Small networks on one thread: a second costs more than it gives, the more so when tests run side by side."""

from __future__ import annotations

import pytest
import torch

torch.set_num_threads(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    """What the whole suite has no time for."""
    parser.addoption("--every-combination", action="store_true", help="every method with every memory and budget")
