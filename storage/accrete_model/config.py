"""How a version is computed, and where versions are kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Le

from accrete_model import bucket_address


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """Choice of engine and of what it may use."""

    engine: Literal["onnxruntime", "torch"] = "onnxruntime"
    """What runs the backbone. ONNX Runtime: four to five times as fast as eager PyTorch on one CPU thread.
    A frozen backbone runs in ONNX Runtime whatever is set."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where it runs. "auto": CUDA when it truly starts, else the CPU. "cuda": CUDA or an error."""

    threads: Annotated[int, Ge(1), Le(256)] = 1
    """CPU threads for one computation. 1: several requests share the cores better than one request's threads do."""

    max_batch: Annotated[int, Ge(1), Le(4096)] = 64
    """Images computed at once on CUDA; longer batches are cut. 64: one full request of the default `max_images`."""


@dataclass(frozen=True, kw_only=True)
class ArtifactsConfig:
    """Where versions are kept. Servers and learners on several machines need no common folder with a bucket."""

    url: str = ""
    """`s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX`, `az://CONTAINER/PREFIX` or `file:///FOLDER`, the same for all servers
    and the learner; empty: the folder `versions` of the data directory. Credentials and endpoint are the environment's
    (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL, ...) and never part of it."""

    cache_bytes: Annotated[int, Ge(1_000_000)] = 10_000_000_000
    """With a url: bytes of versions and backbones in the data directory, where they are read. What was used longest ago
    goes first; what is live or being loaded never does. Make it larger than two versions."""

    def __post_init__(self) -> None:
        if self.url:
            try:
                bucket_address.check(self.url)
            except ValueError as error:
                raise ValueError(f"url = {bucket_address.shown(self.url)!r}: {error}") from None
