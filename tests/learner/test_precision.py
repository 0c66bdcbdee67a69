"""`auto` becomes what the machine at hand is good at; what is asked for by name is never changed."""

from __future__ import annotations

import os

import pytest
import torch

from accrete_learner.training import precision

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("instructions", "wanted"),
    [
        ({"avx512_bf16": True}, "bfloat16"),
        ({"amx_bf16": True, "avx512_bf16": False}, "bfloat16"),
        ({"avx512_bf16": False, "avx512_f": True}, "float32"),
        ({"architecture": "aarch64"}, "float32"),
    ],
)
def test_a_cpu_uses_bfloat16_only_when_it_has_instructions_for_it(
    instructions: dict[str, object], wanted: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: instructions, raising=False)
    assert precision.resolve_precision("auto", CPU) == wanted


def test_a_torch_that_cannot_tell_gets_float32(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert precision.resolve_precision("auto", CPU) == "float32"


def test_what_is_asked_for_stays():
    assert precision.resolve_precision("bfloat16", CPU) == "bfloat16"
    assert precision.resolve_precision("float32", CPU) == "float32"
    assert precision.resolve_device("cpu") == CPU
    assert precision.resolve_threads(3) == 3


def test_all_cores_are_those_this_process_may_use():
    assert 1 <= precision.resolve_threads(0) <= (os.cpu_count() or 1)


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert precision.resolve_device("auto") == CPU
    with pytest.raises(ValueError, match="device = 'cuda': this machine has no GPU"):
        precision.resolve_device("cuda")
