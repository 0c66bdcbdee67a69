"""The number type, device and cores that a training process uses."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from accrete_kit import cores
from accrete_learner.config import Device, Precision

#: Instructions that multiply bfloat16 fast. Without them a CPU emulates it, which is slower than float32.
_FAST_BFLOAT16 = ("avx512_bf16", "amx_bf16")


def resolve_precision(precision: Precision, device: torch.device) -> Precision:
    """Return "bfloat16" for `auto` where `device` is fast at it and "float32" elsewhere, and others as they are."""
    if precision != "auto":
        return precision
    fast = torch.cuda.is_bf16_supported(including_emulation=False) if device.type == "cuda" else _cpu_has_bfloat16()
    return "bfloat16" if fast else "float32"


def resolve_device(device: Device) -> torch.device:
    """Return the GPU for `auto` when there is one.

    Raises:
        ValueError: when a GPU is asked for and there is none.
    """
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise ValueError("device = 'cuda': this machine has no GPU that torch can use")
    return torch.device("cuda" if available and device != "cpu" else "cpu")


def resolve_threads(threads: int) -> int:
    """Return how many threads 0 stands for, and others as they are.

    It is the cores that this process may run on, or fewer where OMP_NUM_THREADS says so, as for other programs.
    """
    asked = os.environ.get("OMP_NUM_THREADS", "")
    most = int(asked) if asked.isdecimal() and int(asked) else cores.whole()
    return threads or min(cores.whole(), most)


def use_threads(threads: int) -> None:
    """Let this process compute on so many threads, or on all cores for 0."""
    torch.set_num_threads(resolve_threads(threads))


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread in this block, which is faster for many small operations.

    On cores that others use too, the threads of a small operation wait for each other longer than they compute.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _cpu_has_bfloat16() -> bool:
    # Torch before 2.12 cannot say which instructions a CPU has; float32 is then the safe choice.
    query = getattr(torch.cpu, "get_capabilities", None)
    capabilities = query() if query is not None else {}
    return any(capabilities.get(name, False) for name in _FAST_BFLOAT16)
