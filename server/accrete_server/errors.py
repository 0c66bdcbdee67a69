"""Every error that a caller can see, and the one table from exceptions to gRPC status codes.

ServerError
├── InvalidInput        the request cannot be used as it is
├── NoModel             nothing has been learned yet, or everything was forgotten
├── ModelNotReady       the same, to who waits for a model to be ready
├── NotNow              the state does not allow it at present
├── Unknown             no such version, label or id
├── AlreadyExists       a name is taken
├── LimitExceeded       a limit, with its name, its value and when to retry
├── BrokenCandidate     a version that cannot serve, with the stage that found it
├── DeadlinePassed      the caller's deadline ended before the work began
├── CallerGone          the caller hung up
├── Unauthenticated     nobody knows who calls
├── PermissionDenied    the caller's roles do not allow it
└── ShuttingDown        the server is about to stop
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import grpc

from accrete_storage import errors as storage

_log = logging.getLogger(__name__)


class ServerError(Exception):
    """Base of this package's errors."""


class InvalidInput(ServerError):
    """The request cannot be used; the message names the part and the reason."""


class NoModel(ServerError):
    """There is nothing to answer from."""


class ModelNotReady(ServerError):
    """There is nothing to answer from yet. In the Open Inference Protocol this passes, as a model's loading does."""


class NotNow(ServerError):
    """The request is fine and the state is not."""


class Unknown(ServerError):
    """Something that the request names does not exist."""


class AlreadyExists(ServerError):
    """A name that the request gives to something new is taken."""


class LimitExceeded(ServerError):
    """A limit was reached. `retry_after_s` None: the same request will never fit."""

    def __init__(self, limit: str, value: int, what: str, retry_after_s: float | None = None) -> None:
        when = "send less at once" if retry_after_s is None else f"retry in {retry_after_s:.2f} s"
        super().__init__(f"{what}: {limit} is {value}; {when}")
        self.retry_after_s = retry_after_s


class BrokenCandidate(ServerError):
    """A version cannot serve. `stage` is "verify", "read", "engine", "golden", "warm" or "fit"."""

    def __init__(self, version: int, stage: str, reason: str) -> None:
        super().__init__(f"version {version} cannot serve: {stage}: {reason}")
        self.version = version
        self.stage = stage
        self.reason = reason


class DeadlinePassed(ServerError):
    """The deadline passed, and nothing was computed."""


class CallerGone(ServerError):
    """The caller cancelled, and nothing was computed."""


class Unauthenticated(ServerError):
    """Credentials are missing or not valid."""


class PermissionDenied(ServerError):
    """The caller's roles do not allow it."""


class ShuttingDown(ServerError):
    """The server stops. Another one, or this one in a moment, can take the call."""


CODES: tuple[tuple[type[Exception], grpc.StatusCode], ...] = (
    (InvalidInput, grpc.StatusCode.INVALID_ARGUMENT),
    (NoModel, grpc.StatusCode.FAILED_PRECONDITION),
    (ModelNotReady, grpc.StatusCode.UNAVAILABLE),
    (NotNow, grpc.StatusCode.FAILED_PRECONDITION),
    (Unknown, grpc.StatusCode.NOT_FOUND),
    (AlreadyExists, grpc.StatusCode.ALREADY_EXISTS),
    (BrokenCandidate, grpc.StatusCode.FAILED_PRECONDITION),
    (LimitExceeded, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (DeadlinePassed, grpc.StatusCode.DEADLINE_EXCEEDED),
    (CallerGone, grpc.StatusCode.CANCELLED),
    (Unauthenticated, grpc.StatusCode.UNAUTHENTICATED),
    (PermissionDenied, grpc.StatusCode.PERMISSION_DENIED),
    (ShuttingDown, grpc.StatusCode.UNAVAILABLE),
    # What reading a stream raises once its caller has hung up, or its deadline has passed.
    (grpc.RpcError, grpc.StatusCode.CANCELLED),
    (storage.NotFound, grpc.StatusCode.NOT_FOUND),
    (storage.LabelInUse, grpc.StatusCode.ALREADY_EXISTS),
    (storage.VersionUnusable, grpc.StatusCode.FAILED_PRECONDITION),
    (storage.PendingFull, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (storage.QuotaExceeded, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (storage.StoreUnavailable, grpc.StatusCode.UNAVAILABLE),
    (storage.StoreMisconfigured, grpc.StatusCode.UNAVAILABLE),
)
"""The first class that fits wins. What is not here is INTERNAL: the log has it in full, the caller one sentence."""


@dataclass(frozen=True, kw_only=True)
class Status:
    """The gRPC status of a failed call."""

    code: grpc.StatusCode
    details: str
    trailers: tuple[tuple[str, str], ...] = ()


def status_of(error: Exception, method: str) -> Status:
    """Return the gRPC status of an exception raised in `method`."""
    code = next((code for kind, code in CODES if isinstance(error, kind)), None)
    if code is None:
        _log.error("call.internal_error", exc_info=error, extra={"method": method})
        return Status(code=grpc.StatusCode.INTERNAL, details="internal error; the server's log has the details")
    return Status(code=code, details=_sentence(error), trailers=_trailers(error))


def _sentence(error: Exception) -> str:
    if isinstance(error, storage.StoreMisconfigured):
        _log.error("call.store_misconfigured", extra={"reason": str(error)})
        return "the store is not usable; the server's log says what to set"
    if isinstance(error, storage.StoreUnavailable):
        return "the store does not answer; try again: an example sent twice under one id is stored once"
    if isinstance(error, storage.PendingFull):
        when = f"retry in {error.retry_after_s:.1f} s"
        return f"pending examples are at their limit: {error.limit} is {error.value}; {when}"
    if isinstance(error, storage.QuotaExceeded):
        seconds = error.retry_after_s
        when = "send less at once" if seconds is None else f"retry in {seconds:.1f} s"
        return f"the quota of one principal is used up: {error.limit} is {error.value}; {when}"
    return str(error)


def _trailers(error: Exception) -> tuple[tuple[str, str], ...]:
    seconds = getattr(error, "retry_after_s", None)
    return () if seconds is None else (("retry-after-ms", str(max(1, round(seconds * 1000)))),)
