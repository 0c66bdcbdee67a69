"""The folder of frozen backbones, each of which is kept once however many versions refer to it.

Shapes: G golden inputs, d feature length.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors

from accrete_kit.atomic_file import sync
from accrete_model.config import EngineConfig
from accrete_model.engines.onnxruntime_ import GraphEngine
from accrete_model.errors import LoadError
from accrete_model.files import GOLDEN_FILE, GRAPH_FILE
from accrete_model.frozen.backbone import CARD_FILE, FrozenBackbone, digest_of
from accrete_model.input_spec import InputSpec
from accrete_model.rules.base import take_from
from accrete_model.vectors import Floats
from accrete_model.writer import write_tensors

_DIGEST = re.compile(r"[0-9a-f]{64}")
_INCOMING, _REMOVED = ".incoming-", ".removed-"
_TRIES = 10
"""To put a backbone where processes put and remove a damaged one at the same time."""
_GOLDEN = 4
"""Images that a backbone is checked with."""


@dataclass(frozen=True, kw_only=True)
class GoldenFeatures:
    """Images of nobody, and what the backbone gave for them when it was put into the store."""

    input: NDArray[Any]  # [G, *spec.shape]
    features: Floats  # [G, d]


class BackboneStore:
    """A folder for each frozen backbone, by its digest. Written once and never changed."""

    def __init__(self, root: Path) -> None:
        """Use the folder `root`, which is made when the first backbone is put there."""
        self._root = root

    def path(self, digest: str) -> Path:
        """Return a backbone's folder, whether it is there or not.

        Raises:
            LoadError: (stage "read") when `digest` is none, and so might be a path to anywhere.
        """
        if not _DIGEST.fullmatch(digest):
            raise LoadError("read", f"{digest!r} is no digest of a backbone")
        return self._root / digest

    def list(self) -> list[str]:
        """Return the digests of the backbones that are there, sorted."""
        if not self._root.is_dir():
            return []
        return sorted(entry.name for entry in self._root.iterdir() if _DIGEST.fullmatch(entry.name))

    def put(self, backbone: FrozenBackbone) -> str:
        """Keep a backbone that runs, every file on disk before its folder has its name, and return its digest.

        One that is there already stays as it is, unless it is damaged.

        Raises:
            LoadError: (stage "engine" or "golden") when ONNX Runtime cannot run it, or it gives other features than it
                says.
            OSError: when it cannot be written.
        """
        digest = backbone.digest
        with suppress(OSError):  # it is not there, or another user's, who keeps it as young
            os.utime(self.path(digest))
        if self._is_whole(digest):
            return digest
        golden = _golden(backbone)
        self._root.mkdir(parents=True, exist_ok=True)
        incoming = Path(tempfile.mkdtemp(prefix=_INCOMING, dir=self._root))
        try:
            (incoming / CARD_FILE).write_text(backbone.card(), encoding="utf-8")
            (incoming / GRAPH_FILE).write_bytes(backbone.graph)
            write_tensors(incoming / GOLDEN_FILE, {"input": golden.input, "features": golden.features})
            for name in (CARD_FILE, GRAPH_FILE, GOLDEN_FILE, ""):
                sync(incoming / name)
            incoming.chmod(0o755)  # a server may run as another user; a temporary folder is its maker's alone
            self._place(incoming, digest)
            sync(self._root)
        finally:
            shutil.rmtree(incoming, ignore_errors=True)
        return digest

    def get(self, digest: str) -> FrozenBackbone:
        """Return a backbone, after reading every byte of it.

        Raises:
            LoadError: (stage "read") when it is not there, or is not what was put there.
        """
        card, graph = self._read(digest, CARD_FILE), self._read(digest, GRAPH_FILE)
        if digest_of(card, graph) != digest:
            raise LoadError("read", f"backbone {digest[:12]}: its files are not those that were put there")
        return FrozenBackbone.from_card(card, graph)

    def golden(self, digest: str, spec: InputSpec | None = None) -> GoldenFeatures:
        """Return what a backbone's features are compared with.

        They are no part of the digest, since another processor's last bits are others.

        Args:
            digest: of the backbone.
            spec: of the inputs that it must take; None for any.

        Raises:
            LoadError: (stage "read") when they are not there or malformed, or it takes other inputs.
        """
        described = FrozenBackbone.from_card(self._read(digest, CARD_FILE), b"")
        # How an image comes to the input's form is the version's own affair.
        if spec is not None and (spec.shape, spec.dtype) != (described.spec.shape, described.spec.dtype):
            raise LoadError("read", f"backbone {digest[:12]} takes {described.spec}, the version {spec}")
        content = self._read(digest, GOLDEN_FILE)
        try:
            take = take_from(GOLDEN_FILE, load_tensors(content))
        except (SafetensorError, ValueError, KeyError) as error:
            raise LoadError("read", f"backbone {digest[:12]}: {GOLDEN_FILE}: {error}") from error
        inputs = take("input", (_GOLDEN, *described.spec.shape), described.spec.dtype)
        return GoldenFeatures(input=inputs, features=take("features", (_GOLDEN, described.feature_length)))

    def remove(self, digest: str) -> None:
        """Remove a backbone if it is there. No version may refer to it any more."""
        folder = self.path(digest)
        if folder.exists():
            gone = Path(tempfile.mkdtemp(prefix=_REMOVED, dir=self._root))
            with suppress(FileNotFoundError):  # another process removes it just now
                folder.rename(gone / folder.name)  # nobody finds half of it
            shutil.rmtree(gone)

    def retain(self, needed: Collection[str], *, younger_s: float) -> tuple[str, ...]:
        """Remove all other backbones, and what killed processes left, and return the digests that went.

        Args:
            needed: digests of the backbones that stay.
            younger_s: what was put here less than so many seconds ago stays too: whoever put it may be about to refer
                to it.

        Raises:
            OSError: one cannot be removed.
        """
        if not self._root.is_dir():
            return ()
        oldest = time.time() - younger_s
        # A folder is as old as the last time that it was put here.
        old = [entry for entry in self._root.iterdir() if entry.stat().st_mtime < oldest]
        for entry in old:
            if entry.name.startswith((_INCOMING, _REMOVED)):
                shutil.rmtree(entry, ignore_errors=True)
        gone = tuple(entry.name for entry in old if _DIGEST.fullmatch(entry.name) and entry.name not in needed)
        for digest in gone:
            self.remove(digest)
        return gone

    def _is_whole(self, digest: str) -> bool:
        try:
            self.get(digest)
            self.golden(digest)
        except LoadError:
            return False
        return True

    def _place(self, incoming: Path, digest: str) -> None:
        """Rename a folder into its place, unless a whole one is there, which a faster process may have put there."""
        for _ in range(_TRIES):
            try:
                incoming.rename(self.path(digest))
                return
            except OSError as error:
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                    raise
            if self._is_whole(digest):
                return
            self.remove(digest)
        raise LoadError("read", f"backbone {digest[:12]}: a damaged one is in its place, and cannot be removed")

    def _read(self, digest: str, name: str) -> bytes:
        try:
            return (self.path(digest) / name).read_bytes()
        except OSError as error:
            raise LoadError("read", f"backbone {digest[:12]}: {name}: {error.strerror}") from error


def _golden(backbone: FrozenBackbone) -> GoldenFeatures:
    inputs = _golden_input(backbone.spec)
    engine = GraphEngine(backbone.graph, EngineConfig(device="cpu"))
    try:
        features = engine.run(inputs)
    except Exception as error:  # ONNX Runtime's own kinds, straight from Exception
        raise LoadError("engine", f"{backbone.name}: {error}") from error
    finally:
        engine.close()
    wanted = (_GOLDEN, backbone.feature_length)
    if features.shape != wanted or features.dtype != np.float32 or not np.isfinite(features).all():
        found = f"{features.dtype} {list(features.shape)}"
        raise LoadError("golden", f"{backbone.name}: features are {found}; finite float32 {list(wanted)} are wanted")
    return GoldenFeatures(input=inputs, features=features)


def _golden_input(spec: InputSpec) -> NDArray[Any]:
    """Return made-up inputs; images are smooth as pictures are, so that features are of the usual size."""
    generator = np.random.default_rng(0x676F6C64)
    if not spec.is_image:
        return generator.standard_normal((_GOLDEN, *spec.shape)).astype(np.float32)
    height, width, channels = spec.shape
    images = np.zeros((_GOLDEN, height, width, channels))
    for cell, share in ((32, 0.5), (8, 0.3), (1, 0.2)):
        coarse = generator.random((_GOLDEN, -(-height // cell), -(-width // cell), channels))
        images += share * coarse.repeat(cell, axis=1).repeat(cell, axis=2)[:, :height, :width]
    return (255 * images).astype(np.uint8)
