"""The Operation service."""

from __future__ import annotations

import logging

import grpc

from accrete.v1 import operation_pb2, operation_pb2_grpc
from accrete_model.artifact_store import ArtifactStore
from accrete_server.access.principal import CALLER
from accrete_server.config import ServerConfig
from accrete_server.errors import BrokenCandidate, NotNow, Unknown
from accrete_server.operate import messages, reporting
from accrete_server.operate.membership import Membership
from accrete_server.store_connection import StoreConnection
from accrete_server.teach.labels import check_ids, known_or_checked
from accrete_server.versions.awaiting import await_revision, await_served
from accrete_server.versions.load_failures import LoadFailures
from accrete_server.versions.loading import FETCH, verify
from accrete_server.versions.slots import Slots
from accrete_storage.store import Store
from accrete_storage.versions.record import VersionRecord

_log = logging.getLogger(__name__)


class Operation(operation_pb2_grpc.OperationServicer):
    """State, versions, and control of the learner."""

    def __init__(
        self,
        config: ServerConfig,
        connection: StoreConnection,
        slots: Slots,
        artifacts: ArtifactStore,
        reporter: reporting.Reporter,
        load_failures: LoadFailures,
        deep_refusal: str,
        membership: Membership,
    ) -> None:
        self._config = config
        self._connection = connection
        self._slots = slots
        self._artifacts = artifacts
        self._reporter = reporter
        self._load_failures = load_failures
        self._deep_refusal = deep_refusal
        self._membership = membership

    def GetStatus(  # noqa: N802  (the contract's names, here and below)
        self, request: operation_pb2.GetStatusRequest, context: grpc.ServicerContext
    ) -> operation_pb2.GetStatusResponse:
        """Return the state of this server and, as far as the store answers, of learning."""
        caller = CALLER.get()
        status = self._reporter.status()
        status.principal = caller.name
        status.roles.extend(sorted(caller.roles))
        return status

    def ListServers(  # noqa: N802
        self, request: operation_pb2.ListServersRequest, context: grpc.ServicerContext
    ) -> operation_pb2.ListServersResponse:
        """Return the members, without asking the store."""
        return self._membership.response()

    def ListClasses(  # noqa: N802
        self, request: operation_pb2.ListClassesRequest, context: grpc.ServicerContext
    ) -> operation_pb2.ListClassesResponse:
        """Return all labels with what is kept of each."""
        return operation_pb2.ListClassesResponse(classes=self._reporter.classes())

    def ListVersions(  # noqa: N802
        self, request: operation_pb2.ListVersionsRequest, context: grpc.ServicerContext
    ) -> operation_pb2.ListVersionsResponse:
        """Return all versions, newest first."""
        store = self._connection.store()
        state = store.registry.state()
        records = sorted(store.registry.versions(), key=lambda record: -record.version)
        return operation_pb2.ListVersionsResponse(
            versions=[
                messages.version_info(record, active=record.version == state.version, pinned=state.pinned)
                for record in records
            ]
        )

    def ActivateVersion(  # noqa: N802
        self, request: operation_pb2.ActivateVersionRequest, context: grpc.ServicerContext
    ) -> operation_pb2.ActivateVersionResponse:
        """Pin a version, or unpin.

        It returns once this server serves the version, or has found that it cannot.
        """
        registry = self._connection.store().registry
        if request.unpin:
            version = registry.unpin()
        else:
            version = request.version
            record = registry.version(version)
            if record.state == "ready":  # a ready version whose files are damaged must not become the active one
                verify(self._artifacts, version, record.digest)
            self._load_failures.forget(version)
            registry.activate(version)
        _log.info("version.activated", extra={"version": version, "pinned": not request.unpin})
        self._await_version(version, context)
        return operation_pb2.ActivateVersionResponse(version=version, pinned=not request.unpin)

    def DiscardVersion(  # noqa: N802
        self, request: operation_pb2.DiscardVersionRequest, context: grpc.ServicerContext
    ) -> operation_pb2.DiscardVersionResponse:
        """Give a damaged version up."""
        store = self._connection.store()
        version = request.version
        record = store.registry.version(version)
        base = store.registry.discard(version, self._damage(record))
        known = store.registry.version(base).labels if base else []
        kept = store.memory.counts()
        relearned = [
            label for label in record.classes if label not in known and label in kept and kept[label].exemplars
        ]
        _log.warning("version.discarded", extra={"version": version, "base": base, "relearned": relearned})
        return operation_pb2.DiscardVersionResponse(base=base, relearned=relearned)

    def TriggerStep(  # noqa: N802
        self, request: operation_pb2.TriggerStepRequest, context: grpc.ServicerContext
    ) -> operation_pb2.TriggerStepResponse:
        """Ask the learner for a step now."""
        store = self._connection.store()
        if store.control.paused():
            raise NotNow("learning is paused: resume it first (accrete resume, or Operation.ResumeLearning)")
        pending = store.pending.total().examples
        if request.deep:
            self._request_deep(store)
            return operation_pb2.TriggerStepResponse(pending=pending)
        if not pending:
            raise NotNow("no example is pending: there is nothing to learn")
        store.control.request_step()
        _log.info("step.requested", extra={"pending": pending})
        return operation_pb2.TriggerStepResponse(pending=pending)

    def PauseLearning(  # noqa: N802
        self, request: operation_pb2.PauseLearningRequest, context: grpc.ServicerContext
    ) -> operation_pb2.PauseLearningResponse:
        """Keep new steps from starting."""
        self._connection.store().control.pause()
        _log.info("learning.paused")
        return operation_pb2.PauseLearningResponse()

    def ResumeLearning(  # noqa: N802
        self, request: operation_pb2.ResumeLearningRequest, context: grpc.ServicerContext
    ) -> operation_pb2.ResumeLearningResponse:
        """Let steps start again."""
        self._connection.store().control.resume()
        _log.info("learning.resumed")
        return operation_pb2.ResumeLearningResponse()

    def ListHeld(  # noqa: N802
        self, request: operation_pb2.ListHeldRequest, context: grpc.ServicerContext
    ) -> operation_pb2.ListHeldResponse:
        """Return the labels in quarantine, and why each is."""
        return operation_pb2.ListHeldResponse(labels=reporting.quarantine(self._connection.store()))

    def RetryHeld(  # noqa: N802
        self, request: operation_pb2.RetryHeldRequest, context: grpc.ServicerContext
    ) -> operation_pb2.RetryHeldResponse:
        """Take a label out of quarantine, so that its examples start steps again."""
        with known_or_checked(self._config.max_label_bytes, request.label):
            pending = self._connection.store().quarantine.retry(request.label)
        _log.info("quarantine.retried", extra={"label": request.label, "pending": pending})
        return operation_pb2.RetryHeldResponse(pending=pending)

    def ApproveLabel(  # noqa: N802
        self, request: operation_pb2.ApproveLabelRequest, context: grpc.ServicerContext
    ) -> operation_pb2.ApproveLabelResponse:
        """Let a new label be learned."""
        with known_or_checked(self._config.max_label_bytes, request.label):
            pending = self._connection.store().quarantine.approve(request.label)
        _log.info("label.approved", extra={"label": request.label, "pending": pending})
        return operation_pb2.ApproveLabelResponse(pending=pending)

    def DropHeld(  # noqa: N802
        self, request: operation_pb2.DropHeldRequest, context: grpc.ServicerContext
    ) -> operation_pb2.DropHeldResponse:
        """Take a label out of quarantine by removing its pending examples."""
        with known_or_checked(self._config.max_label_bytes, request.label):
            dropped = self._connection.store().quarantine.drop(request.label)
        _log.info("quarantine.dropped", extra={"label": request.label, "dropped": dropped})
        return operation_pb2.DropHeldResponse(dropped=dropped)

    def ListReview(  # noqa: N802
        self, request: operation_pb2.ListReviewRequest, context: grpc.ServicerContext
    ) -> operation_pb2.ListReviewResponse:
        """Return what is set aside for review, and why."""
        return operation_pb2.ListReviewResponse(
            groups=map(messages.review_group, self._connection.store().review.groups())
        )

    def ReleaseReview(  # noqa: N802
        self, request: operation_pb2.ReleaseReviewRequest, context: grpc.ServicerContext
    ) -> operation_pb2.ReleaseReviewResponse:
        """Let examples be learned after all."""
        selection = messages.selection(request)
        released = self._connection.store().review.release(selection)
        _log.info("review.released", extra={"selection": str(selection), "released": released})
        return operation_pb2.ReleaseReviewResponse(released=released)

    def DropReview(  # noqa: N802
        self, request: operation_pb2.DropReviewRequest, context: grpc.ServicerContext
    ) -> operation_pb2.DropReviewResponse:
        """Remove examples that are set aside for review."""
        selection = messages.selection(request)
        dropped = self._connection.store().review.drop(selection)
        _log.info("review.dropped", extra={"selection": str(selection), "dropped": dropped})
        return operation_pb2.DropReviewResponse(dropped=dropped)

    def DeleteExamples(  # noqa: N802
        self, request: operation_pb2.DeleteExamplesRequest, context: grpc.ServicerContext
    ) -> operation_pb2.DeleteExamplesResponse:
        """Remove examples wherever they are kept."""
        result = self._connection.store().control.delete_examples(check_ids(request.ids, self._config.max_ids))
        if not result.deleted:
            raise Unknown("ids: none of them is kept")
        _log.info("examples.deleted", extra={"deleted": result.deleted, "unknown": len(result.unknown)})
        return operation_pb2.DeleteExamplesResponse(deleted=result.deleted, unknown=result.unknown)

    def ForgetClass(  # noqa: N802
        self, request: operation_pb2.ForgetClassRequest, context: grpc.ServicerContext
    ) -> operation_pb2.ForgetClassResponse:
        """Remove a class, and return once this server no longer answers with it."""
        store = self._connection.store()
        with known_or_checked(self._config.max_label_bytes, request.label):
            result = store.control.forget_class(request.label)
        _log.info("class.forgotten", extra={"label": request.label})
        await_revision(self._slots, store.registry.state().revision, context)
        return operation_pb2.ForgetClassResponse(
            pending_deleted=result.pending, exemplars_deleted=result.exemplars, holdout_deleted=result.holdout
        )

    def _request_deep(self, store: Store) -> None:
        if self._deep_refusal:
            raise NotNow(self._deep_refusal)
        if store.registry.latest_ready() is None:
            raise NotNow("nothing is learned yet: there is nothing to train the backbone on")
        store.deep.request()
        _log.info("deep.requested")

    def _damage(self, record: VersionRecord) -> str:
        """Return what is wrong with a ready version's files.

        Raises:
            NotNow: nothing is.
        """
        if record.state != "ready":
            return ""
        try:
            verify(self._artifacts, record.version, record.digest)
        except BrokenCandidate as error:
            if error.stage == FETCH:
                raise NotNow(
                    f"version {record.version}: whether its files are whole cannot be told: {error.reason}"
                ) from error
            return error.reason
        raise NotNow(f"version {record.version}: its files are whole; `activate` takes servers back to another one")

    def _await_version(self, version: int, context: grpc.ServicerContext) -> None:
        await_served(
            self._slots,
            lambda: self._slots.version == version or self._load_failures.reason(version) is not None,
            context,
        )
        reason = self._load_failures.reason(version)
        if self._slots.version != version and reason is not None:
            raise NotNow(
                f"version {version} is the active one now, but this server cannot load it ({reason}); "
                f"it goes on with version {self._slots.version}"
            )
