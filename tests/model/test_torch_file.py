"""The reader of PyTorch's older files: it reads what torch reads, and nothing but tensors."""

from __future__ import annotations

import collections
import io
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from accrete_model.frozen import efficientnet_lite0 as lite0
from accrete_model.frozen import torch_file
from accrete_model.frozen.torch_file import TorchFileError


def saved(content: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


def replaced(content: object) -> bytes:
    """A file whose object is another pickle; what stands around it is as torch writes it."""
    return b"".join(
        pickle.dumps(part, protocol=2) for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, content, [])
    )


def test_the_wheels_weights_are_those_that_torch_reads():
    wanted = torch.load(lite0.installed(), weights_only=True)
    found = lite0.read_weights()
    assert list(found) == list(wanted)
    assert any(not tensor.is_contiguous() for tensor in wanted.values())  # as the publisher saved them
    for name, tensor in wanted.items():
        np.testing.assert_array_equal(found[name], tensor.numpy(), err_msg=name)
        assert found[name].flags.c_contiguous


def test_views_of_one_storage_are_read_with_their_strides_and_offsets():
    base = torch.arange(24.0).reshape(4, 6)
    state = {"turned": base.T, "part": base[1:3, ::2], "row": base[2], "scalar": base[3, 5], "none": base[:0]}
    found = torch_file.read(saved(state))
    for name, tensor in state.items():
        np.testing.assert_array_equal(found[name], tensor.numpy(), err_msg=name)


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float16, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool]
)
def test_every_type_of_number_is_read(dtype: torch.dtype):
    tensor = torch.tensor([0, 1, 100]).to(dtype)
    np.testing.assert_array_equal(torch_file.read(saved({"x": tensor}))["x"], tensor.numpy())


class Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (os.environ["ACCRETE_TEST_HOSTILE"],)


@pytest.mark.parametrize("place", ["object", "beside tensors", "first pickle"])
def test_a_hostile_pickle_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str):
    made = tmp_path / "made"
    monkeypatch.setenv("ACCRETE_TEST_HOSTILE", str(made))
    data = {
        "object": lambda: replaced(Hostile()),
        "beside tensors": lambda: saved({"x": torch.zeros(1), "y": Hostile()}),
        "first pickle": lambda: pickle.dumps(Hostile(), protocol=2),
    }[place]()
    with pytest.raises(TorchFileError, match="names posix.mkdir, which is no part of a tensor"):
        torch_file.read(data)
    assert not made.exists()
    pickle.loads(pickle.dumps(Hostile()))  # the same pickle does work where it is let
    assert made.exists()


@pytest.mark.parametrize("name", ["builtins.eval", "torch._utils._rebuild_parameter", "torch.load", "numpy.load"])
def test_every_other_name_is_refused(name: str):
    module, _, function = name.rpartition(".")
    call = pickle.PROTO + b"\x02" + pickle.GLOBAL + f"{module}\n{function}\n".encode() + b")R."
    good = replaced(collections.OrderedDict())
    with pytest.raises(TorchFileError, match=f"names {name}"):
        torch_file.read(good.replace(pickle.dumps(collections.OrderedDict(), protocol=2), call))


def test_a_tensor_that_reaches_beyond_its_storage_is_refused():
    whole = torch.arange(6.0)
    for made in (whole.expand(10**9, 6), torch.as_strided(whole, (2, 3), (3, 1))):
        data = saved({"x": made})
        if made.numel() == 6:
            # The size 3 of the second dimension becomes 200.
            data = data.replace(b"K\x02K\x03\x86", b"K\x02K\xc8\x86")
        with pytest.raises(TorchFileError, match="beyond its storage"):
            torch_file.read(data)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([torch.zeros(1)], "no state dict"),
        ({}, "no state dict"),
        ({"x": 3}, "holds a int beside the tensors"),
        ({"x": {"y": torch.zeros(1)}}, "holds a dict beside the tensors"),
        ({"x": torch.zeros(1, dtype=torch.bfloat16)}, "names torch.BFloat16Storage"),
    ],
)
def test_anything_but_a_state_dict_of_tensors_is_told(content: Any, reason: str):
    with pytest.raises(TorchFileError, match=reason):
        torch_file.read(saved(content))


def test_every_cut_of_a_file_is_told():
    data = saved({"x": torch.arange(20.0), "y": torch.arange(3)})
    for length in range(len(data)):
        with pytest.raises(TorchFileError):
            torch_file.read(data[:length])


def test_the_newer_form_is_told():
    file = io.BytesIO()
    torch.save({"x": torch.zeros(1)}, file)
    with pytest.raises(TorchFileError, match="zip file"):
        torch_file.read(file.getvalue())
