"""The calls of the wire contract, with their paths and how requests and responses become bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from ..v1 import curation_pb2 as cu
from ..v1 import inbox_pb2 as ib
from ..v1 import operation_pb2 as op
from ..v1 import prediction_pb2 as pr
from ..v1 import teaching_pb2 as te

Q = TypeVar("Q")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Method(Generic[Q, R]):
    """One gRPC method."""

    path: str
    encode: Callable[[Q], bytes]
    decode: Callable[[bytes], R]


def _method(path: str, request: type[Q], response: type[R]) -> Method[Q, R]:
    messages: tuple[Any, Any] = (request, response)
    return Method(f"/accrete.v1.{path}", messages[0].SerializeToString, messages[1].FromString)


def _same(data: bytes) -> bytes:
    return data


PREDICT = _method("Prediction/Predict", pr.PredictRequest, pr.PredictResponse)

# Their requests are put together from parts that are bytes already (see `_example_batches`).
ADD_EXAMPLES: Method[bytes, te.AddExamplesResponse] = Method(
    "/accrete.v1.Teaching/AddExamples", _same, te.AddExamplesResponse.FromString
)
STREAM_EXAMPLES: Method[bytes, te.AddExamplesResponse] = Method(
    "/accrete.v1.Teaching/StreamExamples", _same, te.AddExamplesResponse.FromString
)
WAIT_LEARNED = _method("Teaching/WaitLearned", te.WaitLearnedRequest, te.WaitLearnedResponse)
WATCH = _method("Teaching/Watch", te.WatchRequest, te.Event)

GET_STATUS = _method("Operation/GetStatus", op.GetStatusRequest, op.GetStatusResponse)
LIST_SERVERS = _method("Operation/ListServers", op.ListServersRequest, op.ListServersResponse)
LIST_CLASSES = _method("Operation/ListClasses", op.ListClassesRequest, op.ListClassesResponse)
LIST_VERSIONS = _method("Operation/ListVersions", op.ListVersionsRequest, op.ListVersionsResponse)
ACTIVATE_VERSION = _method("Operation/ActivateVersion", op.ActivateVersionRequest, op.ActivateVersionResponse)
DISCARD_VERSION = _method("Operation/DiscardVersion", op.DiscardVersionRequest, op.DiscardVersionResponse)
TRIGGER_STEP = _method("Operation/TriggerStep", op.TriggerStepRequest, op.TriggerStepResponse)
PAUSE_LEARNING = _method("Operation/PauseLearning", op.PauseLearningRequest, op.PauseLearningResponse)
RESUME_LEARNING = _method("Operation/ResumeLearning", op.ResumeLearningRequest, op.ResumeLearningResponse)
LIST_HELD = _method("Operation/ListHeld", op.ListHeldRequest, op.ListHeldResponse)
RETRY_HELD = _method("Operation/RetryHeld", op.RetryHeldRequest, op.RetryHeldResponse)
APPROVE_LABEL = _method("Operation/ApproveLabel", op.ApproveLabelRequest, op.ApproveLabelResponse)
DROP_HELD = _method("Operation/DropHeld", op.DropHeldRequest, op.DropHeldResponse)
LIST_REVIEW = _method("Operation/ListReview", op.ListReviewRequest, op.ListReviewResponse)
RELEASE_REVIEW = _method("Operation/ReleaseReview", op.ReleaseReviewRequest, op.ReleaseReviewResponse)
DROP_REVIEW = _method("Operation/DropReview", op.DropReviewRequest, op.DropReviewResponse)
DELETE_EXAMPLES = _method("Operation/DeleteExamples", op.DeleteExamplesRequest, op.DeleteExamplesResponse)
FORGET_CLASS = _method("Operation/ForgetClass", op.ForgetClassRequest, op.ForgetClassResponse)

LIST_EXAMPLES = _method("Curation/ListExamples", cu.ListExamplesRequest, cu.ListExamplesResponse)
GET_EVALUATION = _method("Curation/GetEvaluation", cu.GetEvaluationRequest, cu.GetEvaluationResponse)
COMPARE_VERSIONS = _method("Curation/CompareVersions", cu.CompareVersionsRequest, cu.CompareVersionsResponse)
RENAME_CLASS = _method("Curation/RenameClass", cu.RenameClassRequest, cu.RenameClassResponse)
MERGE_CLASSES = _method("Curation/MergeClasses", cu.MergeClassesRequest, cu.MergeClassesResponse)

LIST_INBOX = _method("Inbox/ListInbox", ib.ListInboxRequest, ib.ListInboxResponse)
GET_INBOX_IMAGE = _method("Inbox/GetInboxImage", ib.GetInboxImageRequest, ib.GetInboxImageResponse)
LABEL_INBOX = _method("Inbox/LabelInbox", ib.LabelInboxRequest, ib.LabelInboxResponse)
SKIP_INBOX = _method("Inbox/SkipInbox", ib.SkipInboxRequest, ib.SkipInboxResponse)
REOPEN_INBOX = _method("Inbox/ReopenInbox", ib.ReopenInboxRequest, ib.ReopenInboxResponse)

HEALTH: Method[bytes, bytes] = Method("/grpc.health.v1.Health/Check", _same, _same)
"""grpc.health.v1 without its package. An empty request asks for the whole server; see `SERVING`."""

SERVING = b"\x08\x01"
"""HealthCheckResponse with status (field 1) SERVING (1)."""
