"""The Operation service."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import grpc

from accrete.v1 import operation_pb2, operation_pb2_grpc
from accrete_model.artifact_store import ArtifactStore
from accrete_server import convert
from accrete_server.config import ServerConfig
from accrete_server.errors import BrokenCandidate, NotNow, Unknown
from accrete_server.operate import reporting
from accrete_server.store_connection import StoreLink
from accrete_server.teach.labels import check_label
from accrete_server.teach.service import check_ids
from accrete_server.versions.load_failures import BrokenCandidates
from accrete_server.versions.loading import verify
from accrete_server.versions.slots import Slots
from accrete_storage.versions.record import VersionRecord

FOLLOW_S = 5.0
"""How long a call that changes what is served waits for this server to serve it."""

_log = logging.getLogger(__name__)


class Operation(operation_pb2_grpc.OperationServicer):
    """State, versions, and control of the learner."""

    def __init__(
        self,
        config: ServerConfig,
        link: StoreLink,
        slots: Slots,
        artifacts: ArtifactStore,
        reporter: reporting.Reporter,
        broken: BrokenCandidates,
    ) -> None:
        self._config = config
        self._link = link
        self._slots = slots
        self._artifacts = artifacts
        self._reporter = reporter
        self._broken = broken

    def GetStatus(  # noqa: N802  (the contract's names, here and below)
        self, request: operation_pb2.GetStatusRequest, context: grpc.ServicerContext
    ) -> operation_pb2.GetStatusResponse:
        """The state of this server and, as far as the store answers, of learning."""
        return self._reporter.status()

    def ListClasses(  # noqa: N802
        self, request: operation_pb2.ListClassesRequest, context: grpc.ServicerContext
    ) -> operation_pb2.ListClassesResponse:
        """All labels with what is kept of each."""
        return operation_pb2.ListClassesResponse(classes=self._reporter.classes())

    def ListVersions(  # noqa: N802
        self, request: operation_pb2.ListVersionsRequest, context: grpc.ServicerContext
    ) -> operation_pb2.ListVersionsResponse:
        """All versions, newest first."""
        store = self._link.get()
        state = store.registry.state()
        records = sorted(store.registry.versions(), key=lambda record: -record.version)
        return operation_pb2.ListVersionsResponse(
            versions=[
                convert.version_info(record, active=record.version == state.version, pinned=state.pinned)
                for record in records
            ]
        )

    def ActivateVersion(  # noqa: N802
        self, request: operation_pb2.ActivateVersionRequest, context: grpc.ServicerContext
    ) -> operation_pb2.ActivateVersionResponse:
        """Pins a version, or unpins; returns once this server serves it, or has found that it cannot."""
        registry = self._link.get().registry
        if request.unpin:
            version = registry.unpin()
        else:
            version = request.version
            record = registry.version(version)
            if record.state == "ready":  # a ready version whose files are damaged must not become the active one
                verify(self._artifacts, version, record.digest)
            self._broken.forget(version)
            registry.activate(version)
        _log.info("version_activated", extra={"version": version, "pinned": not request.unpin})
        self._await_version(version, context)
        return operation_pb2.ActivateVersionResponse(version=version, pinned=not request.unpin)

    def DiscardVersion(  # noqa: N802
        self, request: operation_pb2.DiscardVersionRequest, context: grpc.ServicerContext
    ) -> operation_pb2.DiscardVersionResponse:
        """Gives a damaged version up."""
        store = self._link.get()
        version = request.version
        record = store.registry.version(version)
        base = store.registry.discard(version, self._damage(record))
        known = store.registry.version(base).labels if base else []
        kept = store.memory.counts()
        relearned = [label for label in record.labels if label not in known and label in kept and kept[label].exemplars]
        _log.warning("version_discarded", extra={"version": version, "base": base, "relearned": relearned})
        return operation_pb2.DiscardVersionResponse(base=base, relearned=relearned)

    def TriggerStep(  # noqa: N802
        self, request: operation_pb2.TriggerStepRequest, context: grpc.ServicerContext
    ) -> operation_pb2.TriggerStepResponse:
        """Asks the learner for a step now."""
        store = self._link.get()
        if store.control.paused():
            raise NotNow("learning is paused: resume it first (accrete resume, or Operation.ResumeLearning)")
        pending = store.pending.total().examples
        if not pending:
            raise NotNow("no example is pending: there is nothing to learn")
        store.control.request_step()
        _log.info("step_requested", extra={"pending": pending})
        return operation_pb2.TriggerStepResponse(pending=pending)

    def PauseLearning(  # noqa: N802
        self, request: operation_pb2.PauseLearningRequest, context: grpc.ServicerContext
    ) -> operation_pb2.PauseLearningResponse:
        """Keeps new steps from starting."""
        self._link.get().control.pause()
        _log.info("learning_paused")
        return operation_pb2.PauseLearningResponse()

    def ResumeLearning(  # noqa: N802
        self, request: operation_pb2.ResumeLearningRequest, context: grpc.ServicerContext
    ) -> operation_pb2.ResumeLearningResponse:
        """Lets steps start again."""
        self._link.get().control.resume()
        _log.info("learning_resumed")
        return operation_pb2.ResumeLearningResponse()

    def ListHeld(  # noqa: N802
        self, request: operation_pb2.ListHeldRequest, context: grpc.ServicerContext
    ) -> operation_pb2.ListHeldResponse:
        """Labels that are set aside, and why."""
        return operation_pb2.ListHeldResponse(labels=reporting.held(self._link.get()))

    def RetryHeld(  # noqa: N802
        self, request: operation_pb2.RetryHeldRequest, context: grpc.ServicerContext
    ) -> operation_pb2.RetryHeldResponse:
        """Lets a label's examples start steps again."""
        check_label(request.label, self._config.max_label_bytes)
        pending = self._link.get().held.retry(request.label)
        _log.info("held_retried", extra={"label": request.label, "pending": pending})
        return operation_pb2.RetryHeldResponse(pending=pending)

    def ApproveLabel(  # noqa: N802
        self, request: operation_pb2.ApproveLabelRequest, context: grpc.ServicerContext
    ) -> operation_pb2.ApproveLabelResponse:
        """Lets a new label be learned."""
        check_label(request.label, self._config.max_label_bytes)
        pending = self._link.get().held.approve(request.label)
        _log.info("label_approved", extra={"label": request.label, "pending": pending})
        return operation_pb2.ApproveLabelResponse(pending=pending)

    def DropHeld(  # noqa: N802
        self, request: operation_pb2.DropHeldRequest, context: grpc.ServicerContext
    ) -> operation_pb2.DropHeldResponse:
        """Removes a label's pending examples."""
        check_label(request.label, self._config.max_label_bytes)
        dropped = self._link.get().held.drop(request.label)
        _log.info("held_dropped", extra={"label": request.label, "dropped": dropped})
        return operation_pb2.DropHeldResponse(dropped=dropped)

    def ListReview(  # noqa: N802
        self, request: operation_pb2.ListReviewRequest, context: grpc.ServicerContext
    ) -> operation_pb2.ListReviewResponse:
        """What is set aside for review, and why."""
        return operation_pb2.ListReviewResponse(groups=map(convert.review_group, self._link.get().review.groups()))

    def ReleaseReview(  # noqa: N802
        self, request: operation_pb2.ReleaseReviewRequest, context: grpc.ServicerContext
    ) -> operation_pb2.ReleaseReviewResponse:
        """Lets examples be learned after all."""
        selection = convert.selection(request)
        released = self._link.get().review.release(selection)
        _log.info("review_released", extra={"selection": str(selection), "released": released})
        return operation_pb2.ReleaseReviewResponse(released=released)

    def DropReview(  # noqa: N802
        self, request: operation_pb2.DropReviewRequest, context: grpc.ServicerContext
    ) -> operation_pb2.DropReviewResponse:
        """Removes examples that are set aside for review."""
        selection = convert.selection(request)
        dropped = self._link.get().review.drop(selection)
        _log.info("review_dropped", extra={"selection": str(selection), "dropped": dropped})
        return operation_pb2.DropReviewResponse(dropped=dropped)

    def DeleteExamples(  # noqa: N802
        self, request: operation_pb2.DeleteExamplesRequest, context: grpc.ServicerContext
    ) -> operation_pb2.DeleteExamplesResponse:
        """Removes examples wherever they are kept."""
        result = self._link.get().control.delete_examples(check_ids(request.ids, self._config.max_ids))
        if not result.deleted:
            raise Unknown("ids: none of them is kept")
        _log.info("examples_deleted", extra={"deleted": result.deleted, "unknown": len(result.unknown)})
        return operation_pb2.DeleteExamplesResponse(deleted=result.deleted, unknown=result.unknown)

    def ForgetClass(  # noqa: N802
        self, request: operation_pb2.ForgetClassRequest, context: grpc.ServicerContext
    ) -> operation_pb2.ForgetClassResponse:
        """Removes a class; returns once this server no longer answers it."""
        check_label(request.label, self._config.max_label_bytes)
        store = self._link.get()
        result = store.control.forget_class(request.label)
        _log.info("class_forgotten", extra={"label": request.label})
        self._await_revision(store.registry.state().revision, context)
        return operation_pb2.ForgetClassResponse(
            pending_deleted=result.pending, exemplars_deleted=result.exemplars, holdout_deleted=result.holdout
        )

    def _damage(self, record: VersionRecord) -> str:
        """What is wrong with a ready version's files. Raises NotNow when nothing is."""
        if record.state != "ready":
            return ""
        try:
            verify(self._artifacts, record.version, record.digest)
        except BrokenCandidate as problem:
            return problem.reason
        raise NotNow(f"version {record.version}: its files are whole; `activate` takes servers back to another one")

    def _await_version(self, version: int, context: grpc.ServicerContext) -> None:
        self._await(lambda: self._slots.version == version or self._broken.reason(version) is not None, context)
        reason = self._broken.reason(version)
        if self._slots.version != version and reason is not None:
            raise NotNow(
                f"version {version} is the active one now, but this server cannot load it ({reason}); "
                f"it goes on with version {self._slots.version}"
            )

    def _await_revision(self, revision: int, context: grpc.ServicerContext) -> None:
        def reached() -> bool:
            live = self._slots.live
            return live is None or live.revision >= revision

        self._await(reached, context)

    def _await(self, done: Callable[[], bool], context: grpc.ServicerContext) -> None:
        """Waits until `done`, the caller is gone, the server stops or a few seconds have passed."""
        until = time.monotonic() + FOLLOW_S
        while not done() and not self._slots.closed and context.is_active():
            left = until - time.monotonic()
            if left <= 0:
                return
            self._slots.wait_change(self._slots.live, min(left, 0.05))
