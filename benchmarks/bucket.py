"""Where nodes of tests and benchmarks have their versions: in their data directory, or below an address of a bucket."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from accrete_model.artifact_store import ArtifactStore
from accrete_model.artifacts import open_artifacts
from accrete_model.config import ArtifactsConfig

VARIABLE = "ACCRETE_NODES_BUCKET"
"""The address, as in `artifacts.url`; credentials and endpoint are the environment's."""


def home_of(data_dir: Path) -> ArtifactsConfig:
    """Return where the versions of a data directory are: the same each time, and in a bucket no other's."""
    below = os.environ.get(VARIABLE)
    if not below:
        return ArtifactsConfig()
    url = f"{below}/{hashlib.sha256(str(data_dir).encode()).hexdigest()[:16]}"
    if url.startswith("file://"):
        Path(url.removeprefix("file://")).mkdir(parents=True, exist_ok=True)
    return ArtifactsConfig(url=url)


def as_flags(home: ArtifactsConfig) -> list[str]:
    """Return what tells a command where versions are."""
    return ["--set", f"artifacts.url={home.url}"] if home.url else []


def open_in(data_dir: Path) -> ArtifactStore:
    """Return the versions of a data directory, in it or in the bucket, without reaching for them."""
    return open_artifacts(home_of(data_dir), data_dir)
