"""What routes share: who asks, what is in the request's body, and how an answer is written."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from types import GenericAlias, UnionType
from typing import Any, cast

import grpc
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from accrete import AccreteError, AsyncClient
from accrete.cli.output import plain
from accrete_page.connection import Connection, Connections
from accrete_page.errors import Refused, SignedOut, invalid
from accrete_page.sessions import Sessions

JSON_BYTES = 1024 * 1024
IMAGE_BYTES = 32 * 1024 * 1024
"""More than a server takes with its own default, which says so in its words."""
IMAGES_AT_ONCE = 4
"""Bodies of images that are read at the same time."""
BODY_S = 60.0
"""Seconds for a body to come, beyond those that it takes at `SLOWEST`."""
SLOWEST = 64 * 1024
"""Bytes a second at which a body may come: a telephone's photograph takes minutes where the network is bad."""

_PICTURES = {
    re.compile(rb"\x89PNG\r\n\x1a\n"): "image/png",
    re.compile(rb"\xff\xd8\xff"): "image/jpeg",
    re.compile(rb"RIFF....WEBP", re.DOTALL): "image/webp",
}

Kind = type | UnionType | GenericAlias
Handler = Callable[[Request, AsyncClient], Awaitable[Any]]


class Callers:
    """Who asks, and over which connection that is asked of the server."""

    def __init__(self, connections: Connections, cookie: str) -> None:
        """Know nobody yet. `cookie`: the name of the one that tells a session."""
        self.connections = connections
        self.sessions = Sessions()
        self.cookie = cookie
        self.images = asyncio.Semaphore(IMAGES_AT_ONCE)

    def token(self, request: Request) -> str:
        """Return the token of whoever asks; "" for nobody."""
        return self.sessions.token(request.cookies.get(self.cookie)) or ""

    def still(self, request: Request) -> Callable[[], bool]:
        """Return a function that tells whether who asks is still who they were; nobody is so for ever."""
        identifier = request.cookies.get(self.cookie)
        signed_in = bool(self.token(request))
        return lambda: not signed_in or self.sessions.is_open(identifier)

    def connection(self, request: Request) -> Connection:
        """Return the connection of whoever asks."""
        return self.connections.get(self.token(request))

    def begin(self, token: str) -> str:
        """Return the identifier of a new session with a token, whose connection is open."""
        identifier = self.sessions.begin(token)
        self.connections.keep(self.sessions.tokens())
        return identifier

    def end(self, token: str) -> None:
        """End the sessions of a token that the server does not take."""
        self.sessions.end_of(token)
        self.drop_unused(token)

    def drop_unused(self, token: str) -> None:
        """Close the connection of a token that no session has."""
        if token and token not in self.sessions.tokens():
            self.connections.drop(token)


def callers(request: Request) -> Callers:
    """Return the application's callers."""
    return cast(Callers, request.app.state.callers)


async def ask(request: Request, handler: Handler) -> Any:
    """Return what a handler makes of a request, with the connection of whoever asks.

    Raises:
        SignedOut: the server wants to know who that is, or does not know the token any more.
        AccreteError: what else the server says.
    """
    known = callers(request)
    token = known.token(request)
    connection = known.connections.get(token)
    try:
        return await connection.call(handler(request, connection.client))
    except AccreteError as error:
        if error.code is not grpc.StatusCode.UNAUTHENTICATED:
            raise
        if not token:
            raise SignedOut from error
        known.end(token)
        raise SignedOut("the server does not take this token any more; sign in again") from error


def route(path: str, handler: Handler, method: str = "GET") -> Route:
    """Return a route of the JSON interface: what the handler returns is the answer, unless it is a Response."""

    async def endpoint(request: Request) -> Response:
        result = await ask(request, handler)
        return result if isinstance(result, Response) else written(result)

    return Route(f"/api/{path}", endpoint, methods=[method])


def without_image(value: Any) -> dict[str, Any]:
    """Return the fields of a dataclass but those of its image, which has a route of its own."""
    fields_ = (field.name for field in dataclasses.fields(value))
    return {name: getattr(value, name) for name in fields_ if name not in ("image", "media_type")}


def written(value: object, status: int = HTTPStatus.OK) -> Response:
    """Return dataclasses, lists and dicts as JSON."""
    return JSONResponse({} if value is None else plain(value), status)


async def body(request: Request, most: int) -> bytes:
    """Return the body of a request.

    Raises:
        Refused: it is longer than `most` bytes, or does not come.
    """
    too_long = Refused(413, "INVALID_ARGUMENT", f"it is longer than {most // 1024 // 1024} MiB")
    length = request.headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > most:
        raise too_long
    parts, size = [], 0
    try:
        async with asyncio.timeout(BODY_S) as limit:
            begun_s = asyncio.get_running_loop().time()
            async for part in request.stream():
                size += len(part)
                if size > most:
                    raise too_long
                parts.append(part)
                limit.reschedule(begun_s + BODY_S + size / SLOWEST)
    except TimeoutError:
        raise Refused(408, "DEADLINE_EXCEEDED", f"it comes too slowly: {size} bytes of it are here") from None
    return b"".join(parts)


async def image(request: Request) -> bytes:
    """Return the image that is the body of a request.

    Raises:
        Refused: it is none by its type, too long, or empty.
    """
    if not request.headers.get("content-type", "").startswith("image/"):
        raise invalid("an image is expected, with the content type image/*")
    async with callers(request).images:
        content = await body(request, IMAGE_BYTES)
    if not content:
        raise invalid("the image is empty")
    return content


def picture(content: bytes) -> Response:
    """Return an image as an answer, as what it is by its bytes and nothing else.

    A browser keeps it for a minute, for what is deleted is to be gone.

    Raises:
        Refused: it is neither PNG nor JPEG nor WebP.
    """
    for start, kind in _PICTURES.items():
        if start.match(content):
            return Response(content, media_type=kind, headers={"Cache-Control": "private, max-age=60"})
    raise Refused(500, "INTERNAL", "the server sent something that is no image")


async def fields(request: Request, **kinds: Kind) -> list[Any]:
    """Return named fields of a JSON body, each of its kind; one that may be missing is of a kind or None.

    Raises:
        Refused: the body is no JSON object, or one of them is missing or of another kind.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise invalid("a body of the content type application/json is expected")
    try:
        given = json.loads(await body(request, JSON_BYTES))
    except (ValueError, RecursionError):
        raise invalid("the body is no JSON") from None
    if not isinstance(given, dict):
        raise invalid("the body is no JSON object")
    return [_checked(name, given.get(name), kind) for name, kind in kinds.items()]


def _checked(name: str, value: Any, kind: Kind) -> Any:
    if not _fits(value, kind):
        raise invalid(f"{name}: {kind if isinstance(kind, GenericAlias | UnionType) else kind.__name__} is expected")
    return value


def _fits(value: Any, kind: Kind) -> bool:
    if isinstance(kind, GenericAlias):  # a list of one kind
        return isinstance(value, list) and all(isinstance(one, _plain(kind.__args__[0])) for one in value)
    return isinstance(value, kind) and not (isinstance(value, bool) and kind is int)


def _plain(kind: Any) -> type:
    return cast(type, getattr(kind, "__origin__", kind))


def text(request: Request, name: str) -> str:
    """Return a parameter of the query. Raises Refused where it is missing."""
    value = request.query_params.get(name)
    if not value:
        raise invalid(f"{name}: the query must have it")
    return value


def choice(request: Request, name: str, allowed: Sequence[str]) -> str | None:
    """Return a parameter of the query that is one of some words, in lower case; None where it is missing."""
    value = request.query_params.get(name, "").lower()
    if value and value not in allowed:
        raise invalid(f"{name} = {value[:50]!r}: {', '.join(allowed)} are allowed")
    return value or None


def number(request: Request, name: str, default: int | None = None) -> int:
    """Return a whole number of the query. Raises Refused where it is missing, without a default, or none."""
    value = request.query_params.get(name)
    if value is None and default is not None:
        return default
    if value is None or not value.isascii() or not value.isdecimal() or len(value) > 15:
        raise invalid(f"{name} = {(value or '')[:50]!r}: a whole number is expected")
    return int(value)
