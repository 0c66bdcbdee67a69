"""What the learner's loop and its steps work with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from accrete_learner_service.config import LearnerServiceConfig
from accrete_learner_service.evaluation.measure import Handover
from accrete_learner_service.runtime.lease import LeaseKeeper
from accrete_learner_service.runtime.report import Reporter
from accrete_learner_service.trainer.child import Trainer
from accrete_model.artifact_store import ArtifactStore
from accrete_storage.config import HoldoutConfig
from accrete_storage.store import Store


@dataclass(frozen=True, kw_only=True)
class LearnerContext:
    """The parts of the learner's process that its loop and its steps share."""

    store: Store
    artifacts: ArtifactStore
    lease: LeaseKeeper
    trainer: Trainer
    handover: Handover
    """Takes the candidate's features to what looks at the hold-out after the swap."""
    reporter: Reporter
    config: LearnerServiceConfig
    holdout: HoldoutConfig
    work: Path
    """Folder of the steps' folders."""
