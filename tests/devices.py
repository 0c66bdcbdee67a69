"""Devices that a test runs on: the CPU always, and CUDA, marked `cuda`, where there is a GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import pytest
import torch

Test = TypeVar("Test", bound=Callable[..., Any])

NO_GPU = "no GPU that PyTorch can use"
NEEDS_GPU = (pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason=NO_GPU))
"""Marks of what a CPU cannot do."""

DEVICES = ("cpu", pytest.param("cuda", marks=NEEDS_GPU))
"""For `parametrize`: one body, either device."""


def needs_gpu(test: Test) -> Test:
    """Mark a test of CUDA alone."""
    for mark in NEEDS_GPU:
        test = mark(test)
    return test
