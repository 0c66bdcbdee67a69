"""All errors that the client raises, and how a gRPC status becomes one.

AccreteError                 code, details, retry_after (seconds), attempts
├── InvalidInput             an image, label, id or setting cannot be used; nothing was changed
├── NotFound                 no such version, label or id
├── AlreadyExists            the id is taken by an example with other content, or the label by a class
├── LimitExceeded            a limit was reached; without retry_after the same request will never fit
├── NotNow                   the request is fine, the server's state is not (paused, nothing pending, ...)
│   └── NoModel              nothing has been learned yet: teach first
├── Unavailable              the server, or the store behind it, does not respond
├── DeadlineExceeded         the time was up (also a TimeoutError)
│   └── NotLearned           the examples of `wait_learned` are not all in the live version yet
├── Cancelled                the call was cancelled, or the client is closed
├── Unauthenticated          something before the server wants credentials
│   └── PermissionDenied     ... and these are not enough
├── IncompatibleServer       the server does not know the call, or its response cannot be read by this client
└── InternalError            a bug in the server; its log has the details
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, cast

import grpc

_RETRY_AFTER = "retry-after-ms"  # trailing metadata of a refused call


class AccreteError(Exception):
    """Base of all errors of this package."""

    default_code: ClassVar[grpc.StatusCode] = grpc.StatusCode.UNKNOWN

    def __init__(
        self,
        details: str = "",
        *,
        code: grpc.StatusCode | None = None,
        retry_after: float | None = None,
        attempts: int = 1,
    ) -> None:
        super().__init__(details)
        self.details = details
        """What went wrong, for people."""
        self.code = code or self.default_code
        """The gRPC status code."""
        self.retry_after = retry_after
        """Seconds after which the server says that it is worth trying again."""
        self.attempts = attempts
        """How often the call was made before this was raised."""
        self.elsewhere = False
        """Whether another server is known that can be asked at once."""

    def __str__(self) -> str:
        tried = f" (after {self.attempts} attempts)" if self.attempts > 1 else ""
        return f"{self.details or self.code.name}{tried}"


class InvalidInput(AccreteError):
    """Something that was given cannot be used as it is. The message names it and says what is allowed."""

    default_code = grpc.StatusCode.INVALID_ARGUMENT


class NotFound(AccreteError):
    """A version, label or id that does not exist."""

    default_code = grpc.StatusCode.NOT_FOUND


class AlreadyExists(AccreteError):
    """The id belongs to an example with other content, or the label to a class."""

    default_code = grpc.StatusCode.ALREADY_EXISTS


class LimitExceeded(AccreteError):
    """A limit was reached. The message names it and its value. Without `retry_after`, send less at once."""

    default_code = grpc.StatusCode.RESOURCE_EXHAUSTED


class NotNow(AccreteError):
    """The server's state does not allow it at present."""

    default_code = grpc.StatusCode.FAILED_PRECONDITION


class NoModel(NotNow):
    """Nothing has been learned yet, so there is nothing to predict with."""


class Unavailable(AccreteError):
    """The server cannot be reached, or its store does not respond."""

    default_code = grpc.StatusCode.UNAVAILABLE


class DeadlineExceeded(AccreteError, TimeoutError):
    """The time given to a call was up before the response came."""

    default_code = grpc.StatusCode.DEADLINE_EXCEEDED


class NotLearned(DeadlineExceeded):
    """`wait_learned` ran out of time."""

    def __init__(
        self, details: str = "", *, waiting: Sequence[str] = (), version: int = 0, in_vain: bool = False
    ) -> None:
        super().__init__(details)
        self.waiting = tuple(waiting)
        """The ids that are not in the live version yet."""
        self.version = version
        """The live version; 0 for none."""
        self.in_vain = in_vain
        """More time would not help before somebody does what the message says."""


class Cancelled(AccreteError):
    """The call was cancelled, or the client has been closed."""

    default_code = grpc.StatusCode.CANCELLED


class Unauthenticated(AccreteError):
    """Credentials are missing or not valid."""

    default_code = grpc.StatusCode.UNAUTHENTICATED


class PermissionDenied(Unauthenticated):
    """The credentials do not allow this."""

    default_code = grpc.StatusCode.PERMISSION_DENIED


class IncompatibleServer(AccreteError):
    """The server is of a release (or a kind) that this client cannot work with."""

    default_code = grpc.StatusCode.UNIMPLEMENTED


class InternalError(AccreteError):
    """The server failed in a way that it should not."""

    default_code = grpc.StatusCode.INTERNAL


KINDS: dict[grpc.StatusCode, type[AccreteError]] = {
    grpc.StatusCode.CANCELLED: Cancelled,
    grpc.StatusCode.UNKNOWN: InternalError,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidInput,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
    grpc.StatusCode.RESOURCE_EXHAUSTED: LimitExceeded,
    grpc.StatusCode.FAILED_PRECONDITION: NotNow,
    grpc.StatusCode.ABORTED: NotNow,
    grpc.StatusCode.OUT_OF_RANGE: InvalidInput,
    grpc.StatusCode.UNIMPLEMENTED: IncompatibleServer,
    grpc.StatusCode.INTERNAL: InternalError,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DATA_LOSS: InternalError,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
}
"""The error of each status code."""


def from_rpc(error: grpc.RpcError) -> AccreteError:
    """Return the error of a failed call of either of gRPC's two interfaces."""
    code = error.code()
    return KINDS[code](error.details() or "", code=code, retry_after=_retry_after(error))


def from_unary(error: grpc.RpcError, *, closed: bool) -> AccreteError:
    """Return the error of a failed call with one response.

    A server that ends while the call is still on its way to a handler cancels it without details of its own. Unless
    this client is `closed`, nobody else has.
    """
    cancelled = error.code() is grpc.StatusCode.CANCELLED and (error.details() or "CANCELLED").upper() == "CANCELLED"
    if cancelled and not closed:
        return Unavailable("the server ended before it took up the call", code=grpc.StatusCode.UNAVAILABLE)
    return from_rpc(error)


def _retry_after(error: grpc.RpcError) -> float | None:
    """Return the seconds that the trailing metadata says."""
    metadata: Iterable[tuple[str, str | bytes]] = cast(Any, error.trailing_metadata()) or ()
    for key, value in metadata:
        if key == _RETRY_AFTER and str(value).isdecimal():
            return int(value) / 1000
    return None
