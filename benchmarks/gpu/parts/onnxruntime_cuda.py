"""ONNX Runtime's CUDA provider beside the PyTorch engine, where its wheel has come in pieces."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.gpu import setup
from benchmarks.gpu.models import artifact, served
from benchmarks.gpu.record import Record
from benchmarks.gpu.settings import Settings
from benchmarks.report import Row

_CODE = """
import json, sys, time
from pathlib import Path
if sys.argv[2] == "cuda":
    import torch  # brings CUDA's libraries, which the provider finds loaded
from accrete_model.config import EngineConfig
from accrete_model.loaded_version import load
from benchmarks.noise import noise
config = EngineConfig(engine="onnxruntime", device=sys.argv[2])
loaded = load(Path(sys.argv[1]), 1, config)
found = {"engine": loaded.engine_name}
for images in (1, 64):
    batch = noise(images, loaded.spec.shape)
    loaded.features(batch)
    calls, began = 0, time.perf_counter()
    while time.perf_counter() - began < float(sys.argv[3]):
        loaded.features(batch)
        calls += 1
    found[str(images)] = calls * images / (time.perf_counter() - began)
print(json.dumps(found))
"""


def run(record: Record, settings: Settings) -> None:
    """Install it aside, and measure each network."""
    site = settings.work / "site-onnxruntime"
    if settings.on_gpu:
        wheel = setup.whole_wheel(settings.work)
        if wheel is None:
            record.note("not run: the pieces of onnxruntime-gpu are not all here")
            return
        if not site.exists() and (trouble := setup.install([wheel], site)):
            record.note(trouble)
    for name, network in served(settings).items():
        record.cell(name, partial(_rates, record, settings, artifact(settings, network), site))


def _rates(record: Record, settings: Settings, folder: Path, site: Path) -> Iterator[Row]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(site), os.environ.get("PYTHONPATH", "")))}
    command = [sys.executable, "-c", _CODE, str(folder), settings.device, "0.2" if settings.tiny else "3"]
    ended = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=max(1.0, record.left_s)
    )
    if ended.returncode:
        raise RuntimeError(ended.stderr[-2000:])
    found = json.loads(ended.stdout.splitlines()[-1])
    record.note(found["engine"])
    for images in (1, 64):
        yield Row(name=f"batches of {images}", value=found[str(images)], unit="images/s")
