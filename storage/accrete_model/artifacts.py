"""Where the settings say that versions are kept."""

from __future__ import annotations

from pathlib import Path

from accrete_model.artifact_store import ArtifactStore
from accrete_model.config import ArtifactsConfig

VERSIONS_FOLDER = "versions"
"""In the data directory: all versions, or the cache of those in a bucket."""


def open_artifacts(config: ArtifactsConfig, data_dir: Path) -> ArtifactStore:
    """Return the versions of a data directory, in it or in a bucket, without reaching for them."""
    root = data_dir / VERSIONS_FOLDER
    if not config.url:
        return ArtifactStore(root)
    from accrete_model.bucket.store import BucketArtifactStore  # brings obstore, which not every install has

    return BucketArtifactStore(config, root)
