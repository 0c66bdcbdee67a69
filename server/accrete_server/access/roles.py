"""The one table from what can be called to the roles that may."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

Role = Literal["predict", "teach", "operate", "metrics"]

ALL: frozenset[Role] = frozenset(get_args(Role))
_WATCHERS: frozenset[Role] = frozenset({"operate", "metrics"})
_PREDICT: frozenset[Role] = frozenset({"predict"})
_TEACH: frozenset[Role] = frozenset({"teach"})
_OPERATE: frozenset[Role] = frozenset({"operate"})
_CURATORS: frozenset[Role] = _TEACH | _OPERATE

METRICS_PAGE = "/metrics"

ROLES: Mapping[str, frozenset[Role] | None] = {
    "/accrete.v1.Prediction/Predict": _PREDICT,
    "/accrete.v1.Teaching/AddExamples": _TEACH,
    "/accrete.v1.Teaching/StreamExamples": _TEACH,
    "/accrete.v1.Teaching/WaitLearned": _TEACH,
    "/accrete.v1.Teaching/Watch": _TEACH | _WATCHERS,
    "/accrete.v1.Operation/GetStatus": ALL,
    "/accrete.v1.Operation/ListServers": ALL,
    "/accrete.v1.Operation/ListClasses": ALL,
    "/accrete.v1.Operation/ListVersions": _WATCHERS,
    "/accrete.v1.Operation/ActivateVersion": _OPERATE,
    "/accrete.v1.Operation/DiscardVersion": _OPERATE,
    "/accrete.v1.Operation/TriggerStep": _OPERATE,
    "/accrete.v1.Operation/PauseLearning": _OPERATE,
    "/accrete.v1.Operation/ResumeLearning": _OPERATE,
    "/accrete.v1.Operation/ListHeld": _WATCHERS,
    "/accrete.v1.Operation/RetryHeld": _OPERATE,
    "/accrete.v1.Operation/ApproveLabel": _OPERATE,
    "/accrete.v1.Operation/DropHeld": _OPERATE,
    "/accrete.v1.Operation/ListReview": _WATCHERS,
    "/accrete.v1.Operation/ReleaseReview": _OPERATE,
    "/accrete.v1.Operation/DropReview": _OPERATE,
    "/accrete.v1.Operation/DeleteExamples": _OPERATE,
    "/accrete.v1.Operation/ForgetClass": _OPERATE,
    "/accrete.v1.Curation/ListExamples": _CURATORS,
    "/accrete.v1.Curation/GetEvaluation": _CURATORS | _WATCHERS,
    "/accrete.v1.Curation/CompareVersions": _CURATORS | _WATCHERS,
    "/accrete.v1.Curation/RenameClass": _OPERATE,
    "/accrete.v1.Curation/MergeClasses": _OPERATE,
    "/accrete.v1.Inbox/ListInbox": _CURATORS,
    "/accrete.v1.Inbox/GetInboxImage": _CURATORS,
    "/accrete.v1.Inbox/LabelInbox": _CURATORS,
    "/accrete.v1.Inbox/SkipInbox": _CURATORS,
    "/accrete.v1.Inbox/ReopenInbox": _CURATORS,
    "/inference.GRPCInferenceService/ModelInfer": _PREDICT,
    "/inference.GRPCInferenceService/SystemSharedMemoryStatus": _PREDICT,
    "/inference.GRPCInferenceService/SystemSharedMemoryRegister": _PREDICT,
    "/inference.GRPCInferenceService/SystemSharedMemoryUnregister": _PREDICT,
    "/inference.GRPCInferenceService/ModelReady": ALL,
    "/inference.GRPCInferenceService/ServerMetadata": ALL,
    "/inference.GRPCInferenceService/ModelMetadata": ALL,
    "/inference.GRPCInferenceService/ModelConfig": ALL,
    "/inference.GRPCInferenceService/ModelStatistics": _WATCHERS,
    "/inference.GRPCInferenceService/RepositoryIndex": _WATCHERS,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": ALL,
    # Load balancers ask for it and have no credentials; it tells no more than a port that answers.
    "/grpc.health.v1.Health/Check": None,
    "/grpc.health.v1.Health/List": None,
    "/grpc.health.v1.Health/Watch": None,
    "/inference.GRPCInferenceService/ServerLive": None,
    "/inference.GRPCInferenceService/ServerReady": None,
    METRICS_PAGE: frozenset({"metrics"}),
}
"""By path, the roles of which a caller needs one; None: no role is needed. What is not here may not be called."""

AUDITED = _TEACH | _OPERATE
"""A call that needs one of these may change something, so it goes into the audit log."""

_LOOKS = frozenset(
    {"/accrete.v1.Curation/ListExamples", "/accrete.v1.Inbox/ListInbox", "/accrete.v1.Inbox/GetInboxImage"}
)
"""Calls that need one of these to see images, and change nothing; a page makes many of them."""


def is_audited(path: str) -> bool:
    """Return whether calls of `path` go into the audit log."""
    needed = ROLES.get(path)
    return needed is not None and needed <= AUDITED and path not in _LOOKS
