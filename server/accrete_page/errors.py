"""The one place where errors become answers: a status, a word for programs and a sentence for people."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from accrete import AccreteError, Unavailable

_STATUS = {
    "INVALID_ARGUMENT": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "FAILED_PRECONDITION": 409,
    "ABORTED": 409,
    "RESOURCE_EXHAUSTED": 429,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 503,
    "CANCELLED": 503,
}
_WORDS = {403: "PERMISSION_DENIED", 404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED"}


class Refused(Exception):
    """The page itself refuses a request, before any server sees it."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class SignedOut(Refused):
    """Nobody is signed in, and the server asks for a token."""

    def __init__(self, message: str = "sign in with a token first") -> None:
        super().__init__(401, "UNAUTHENTICATED", message)


class Gone(Unavailable):
    """The server cannot be reached at present."""

    def __init__(self, address: str) -> None:
        super().__init__(f"the server at {address} cannot be reached; the page goes on by itself when it is back")


def invalid(message: str) -> Refused:
    """Return the error of a request that the page cannot read."""
    return Refused(400, "INVALID_ARGUMENT", message)


def answer(status: int, code: str, message: str, retry_after_s: float | None = None) -> Response:
    """Return an error as an answer."""
    headers = {} if retry_after_s is None else {"Retry-After": str(max(1, round(retry_after_s)))}
    return JSONResponse({"error": {"code": code, "message": message}}, status, headers)


def of_server(error: AccreteError) -> Response:
    """Return what the server refused, or that it cannot be reached, as an answer."""
    code = error.code.name
    return answer(_STATUS.get(code, 500), code, error.details or str(error), error.retry_after)


async def on_refused(request: Request, error: Exception) -> Response:
    """Answer what the page refuses."""
    assert isinstance(error, Refused)
    return answer(error.status, error.code, str(error))


async def on_server_error(request: Request, error: Exception) -> Response:
    """Answer what the server refuses."""
    assert isinstance(error, AccreteError)
    return of_server(error)


async def on_http_error(request: Request, error: Exception) -> Response:
    """Answer what is not there."""
    assert isinstance(error, HTTPException)
    return answer(error.status_code, _WORDS.get(error.status_code, "INVALID_ARGUMENT"), str(error.detail))


async def on_bug(request: Request, error: Exception) -> Response:
    """Answer a fault of our own; it is raised again for the log."""
    return answer(500, "INTERNAL", "the page failed at this; its log has the details")


HANDLERS = {
    Refused: on_refused,
    AccreteError: on_server_error,
    HTTPException: on_http_error,
    Exception: on_bug,
}
