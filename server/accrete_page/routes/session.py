"""Who is signed in, and at which node."""

from __future__ import annotations

import grpc
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from accrete import AccreteError, Status
from accrete_page.errors import Refused, SignedOut
from accrete_page.requests import ask, callers, fields, written

_MOST_TOKEN = 4096


async def show(request: Request) -> Response:
    """Tell who is signed in, and what the page needs to know of the node."""
    token = callers(request).token(request)
    try:
        status = await ask(request, lambda _, client: client.status())
    except SignedOut:
        return written({"needs_token": True, "signed_in": False, "roles": [], "principal": ""})
    return written(_told(status, needs_token=bool(token)))


async def begin(request: Request) -> Response:
    """Sign in with a token, which stays in this process's memory; the browser gets a cookie that tells nothing."""
    (token,) = await fields(request, token=str)
    token = token.strip()
    if not 0 < len(token) <= _MOST_TOKEN:
        raise Refused(400, "INVALID_ARGUMENT", "token: it is empty or too long")
    known = callers(request)
    try:
        connection = known.connections.get(token)
        status = await connection.call(connection.client.status())
    except AccreteError as error:
        known.drop_unused(token)
        if error.code is grpc.StatusCode.UNAUTHENTICATED:
            raise Refused(401, "UNAUTHENTICATED", "the server does not know this token") from None
        raise
    known.sessions.end(request.cookies.get(known.cookie))
    answer = written(_told(status, needs_token=True))
    secure = request.url.scheme == "https"
    identifier = known.begin(token)
    answer.set_cookie(known.cookie, identifier, path="/", secure=secure, httponly=True, samesite="strict")
    return answer


async def end(request: Request) -> Response:
    """Sign out."""
    known = callers(request)
    token = known.token(request)
    known.sessions.end(request.cookies.get(known.cookie))
    known.drop_unused(token)
    answer = written({"signed_in": False})
    answer.delete_cookie(known.cookie, path="/", secure=request.url.scheme == "https", httponly=True, samesite="strict")
    return answer


def _told(status: Status, *, needs_token: bool) -> dict[str, object]:
    names = ("node", "data_dir", "release", "principal", "roles", "input_shape", "inbox_enabled")
    told = {name: getattr(status, name) for name in names if hasattr(status, name)}
    return {"needs_token": needs_token, "signed_in": True, **told}


ROUTES = [
    Route("/api/session", show, methods=["GET"]),
    Route("/api/session", begin, methods=["POST"]),
    Route("/api/session", end, methods=["DELETE"]),
]
