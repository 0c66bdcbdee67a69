"""The version that a step starts from."""

from __future__ import annotations

from pathlib import Path

from accrete_learner_service.errors import Blocked
from accrete_learner_service.evaluation.measure import verified_folder
from accrete_learner_service.labels import known_labels
from accrete_learner_service.step.context import LearnerContext
from accrete_model.errors import LoadError
from accrete_model.reader import read_card
from accrete_storage.versions.record import VersionRecord


def find_parent(context: LearnerContext) -> tuple[VersionRecord | None, Path | None]:
    """Return the newest ready version, and its folder if any class of it stays.

    Raises:
        Blocked: its files are damaged, or its backbone is not the configured one.
        StoreUnavailable: the store does not answer.
    """
    registry = context.store.registry
    parent = registry.latest_ready()
    if parent is None or not known_labels(parent, registry.forgotten()):
        return parent, None
    files = verified_folder(context.artifacts, parent)
    if not context.config.method.begins_anew:
        _check_backbone(files, parent.version, context.config.model.backbone)
    return parent, files


def _check_backbone(files: Path, version: int, asked: str) -> None:
    """Raise Blocked when a backbone of one kind is to go on from another's weights."""
    try:
        backbone = read_card(files).backbone
    except LoadError as error:
        raise Blocked(f"version {version} cannot be read: {error}") from error
    if backbone != asked:
        raise Blocked(
            f"version {version} is a {backbone}, and the configuration asks for a {asked}: set model.backbone back, "
            "or begin with another data_dir"
        )
