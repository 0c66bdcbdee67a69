"""Settings that go together, by what is to be told apart. A preset stands below everything that is set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from accrete_kit.atomic_file import write_text
from accrete_learner.method_names import ANALYTIC

Preset = Literal["photographs", "embeddings", "digits", "cifar"]
DEFAULT: Preset = "photographs"
FILE_NAME = "preset"
"""In the data directory: what it was begun with."""

#: A closed form learns each example as it comes. Every image that it learned measures it, so that none is set aside.
_LEARN_AT_ONCE: dict[str, Any] = {
    "method": {"name": ANALYTIC},
    "holdout": {"share": 0.0},
    "trigger": {"min_examples": 1, "refresh_examples": 1, "settle_s": 0.0},
    "learner": {"poll_s": 0.1},
    "server": {"unknown_rate": 0.05},
}

_PRESETS: Mapping[Preset, Mapping[str, Any]] = {
    "photographs": _LEARN_AT_ONCE
    | {
        "model": {"backbone": "efficientnet_lite0"},
        # What a deep step trains on. Ten minutes of two cores see about as many images twice; they take 100 MB.
        "memory": {"kind": "total", "size": 5000},
    },
    "embeddings": _LEARN_AT_ONCE | {"model": {"backbone": "identity"}},
    "digits": {
        "model": {"backbone": "resnet8", "input_size": 28, "channels": 1},
        # A mirror image of a digit is another sign.
        "training": {"augmentation": "crop", "base_epochs": 50, "epochs": 50},
    },
    # What every section has by itself.
    "cifar": {},
}


def values(preset: str, method: str | None) -> dict[str, Any]:
    """Return what a preset sets, nested as in the settings' file; nothing for a name that is none.

    Args:
        preset: its name.
        method: the method that is asked for by name, if one is. Another than the preset's closed form trains, for which
            the preset's way of learning each example at once is not made: of that, nothing is set then.
    """
    chosen: Mapping[str, Any] = next((found for name, found in _PRESETS.items() if name == preset), {})
    if method not in (None, ANALYTIC) and chosen.get("method", {}).get("name") == ANALYTIC:
        return {"model": chosen["model"]}
    return dict(chosen)


def begun_with(data_dir: Path) -> Preset | None:
    """Return the preset that a data directory was begun with, or None when it is new.

    Releases before presets had the settings of `cifar`.

    Raises:
        ValueError: the directory names a preset that this release does not have.
        OSError: its file cannot be read.
    """
    file = data_dir / FILE_NAME
    if file.exists():
        name = file.read_text("utf-8").strip()
        for preset in get_args(Preset):
            if name == preset:
                return preset  # type: ignore[no-any-return]
        raise ValueError(
            f"{file} names the preset {name!r}; this release has {', '.join(get_args(Preset))}: write into it the one "
            "that the directory was begun with"
        )
    return "cifar" if (data_dir / "versions").exists() or (data_dir / "store").exists() else None


def keep(data_dir: Path, preset: Preset) -> None:
    """Write down what a data directory is begun with. Raises OSError when it cannot be written."""
    if not (data_dir / FILE_NAME).exists():
        write_text(data_dir / FILE_NAME, f"{preset}\n")
