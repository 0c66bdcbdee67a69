"""Finds out at a start whether the backbone's weights are there and fit, and not at the first step."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

from accrete_learner import torchvision_weights
from accrete_learner.backbone_names import EFFICIENTNET, ONNX, OURS, is_frozen
from accrete_learner.config import ModelConfig
from accrete_learner.method_names import ANALYTIC
from accrete_node.exit_status import CANNOT_START
from accrete_node.settings import Settings, SettingsError

CACHE_FOLDER = "cache"
"""Below the data directory, where libraries keep what they download."""
_REACH_S = 10.0


def check_weights(settings: Settings) -> None:
    """Look whether the weights that the first step starts from are there, or can be had.

    Not a check of every process's settings: on a server's machine they need not be.

    Raises:
        SettingsError: naming the setting, its value and what to do.
    """
    model, method = settings.model, settings.method.name
    if method == ANALYTIC and not is_frozen(model.backbone):
        reason = (
            f"method {ANALYTIC} learns on a backbone that brings its weights ({EFFICIENTNET}, identity, {ONNX}FILE); a "
            "network that is to be trained goes with another method, such as those of preset = 'digits' or 'cifar'"
        )
        raise SettingsError([f"model.backbone = {model.backbone!r}: {reason}"])
    if model.backbone.startswith(ONNX) and method != ANALYTIC:
        reason = f"it is used as it is, and method {method!r} trains the network; set method.name = {ANALYTIC!r}"
        raise SettingsError([f"model.backbone = {model.backbone!r}: {reason}"])
    if model.backbone == EFFICIENTNET and not model.weights:
        _check_installed()
    if not model.weights or Path(model.weights).expanduser().is_file():
        return
    if model.backbone in OURS or Path(model.weights).suffix or os.sep in model.weights:
        raise SettingsError([f"model.weights = {model.weights!r}: no such file"])
    _check_download(model, settings.data_dir)


def check_fit(settings: Settings) -> None:
    """Build the backbone where its weights or its form are the user's own, in a process that ends with it.

    Raises:
        SettingsError: naming the setting, its value and what to do.
    """
    model = settings.model
    is_file = bool(model.weights) and Path(model.weights).expanduser().is_file()
    if not is_file and not model.backbone.startswith(ONNX):
        return
    config = json.dumps(dataclasses.asdict(model))
    command = [sys.executable, "-m", "accrete_learner.check_backbone", config]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == CANNOT_START:
        problem = done.stdout.strip()
        raise SettingsError([problem if problem.startswith("model.") else f"model.{problem}"])
    if done.returncode:
        raise SettingsError([f"model.backbone = {model.backbone!r}: it cannot be built: {_last_line(done.stderr)}"])


def _check_installed() -> None:
    from accrete_model.frozen import efficientnet_lite0  # brings onnx, for which a server's process has no use

    try:
        efficientnet_lite0.check_installed()
    except efficientnet_lite0.WeightsError as error:
        raise SettingsError([f"model.backbone = {EFFICIENTNET!r}: {error}"]) from error


def _check_download(model: ModelConfig, data_dir: Path) -> None:
    """See that weights with a name are one of torchvision's, and that they are here already or can be reached."""
    addresses = torchvision_weights.addresses(model.backbone)
    if model.weights not in addresses:
        names = ", ".join(addresses) or "none"
        reason = f"neither a file nor a name of {model.backbone}'s weights, which are: {names}"
        raise SettingsError([f"model.weights = {model.weights!r}: {reason}"])
    address = addresses[model.weights]
    if torchvision_weights.cached(address, data_dir / CACHE_FOLDER / "torch"):
        return
    try:
        urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=_REACH_S).close()
    except (OSError, urllib.error.URLError) as error:
        reason = (
            f"they have to be downloaded from {address}, which this machine does not reach ({error}); download the "
            "file elsewhere, and set model.weights to its path here"
        )
        raise SettingsError([f"model.weights = {model.weights!r}: {reason}"]) from error


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no reason given"])[-1]
