"""How many ranks a machine has room for. Standard library alone."""

import os
from pathlib import Path

from accrete_kit import cores
from accrete_learner.config import TrainingConfig


def check_ranks(training: TrainingConfig, gpus: int) -> None:
    """Refuse more ranks than there are devices for.

    Args:
        training: with `ranks` and the device.
        gpus: that the trainer may use.

    Raises:
        ValueError: naming the setting.
    """
    on_gpus = gpus > 0 and training.device != "cpu"
    most = gpus if on_gpus else cores.whole()
    if training.ranks > most:
        one = "GPU" if on_gpus else "core"
        there = f"{most} {one}" if most == 1 else f"{most} {one}s"
        wanted = f"training.ranks = {training.ranks}: each rank needs a {one} of its own"
        raise ValueError(f"{wanted}, and the trainer may use {there} here")


def visible_gpus(devices: Path = Path("/dev")) -> int:
    """Return how many GPUs of NVIDIA this process may use, without loading a library that could tell more exactly."""
    there = len([path for path in devices.glob("nvidia*") if path.name.removeprefix("nvidia").isdecimal()])
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    return there if chosen is None else min(there, len([one for one in chosen.split(",") if one.strip()]))
