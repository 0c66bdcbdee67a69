"""The application: its routes, its files, and what holds for all of them."""

from __future__ import annotations

from pathlib import Path

from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Scope

from accrete_page import errors
from accrete_page.connection import Connections
from accrete_page.requests import Callers
from accrete_page.routes import classes, examples, inbox, learning, now, quarantine, session, trying, versions
from accrete_page.security import Security

STATIC = Path(__file__).parent / "static"
_VIEWS = (session, now, inbox, classes, examples, versions, learning, quarantine, trying)


class _Files(StaticFiles):
    """Our own files, which a browser asks for again each time: after an upgrade none of the old ones is used."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Return a file, or that it has not changed."""
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "no-cache"
        return response


def application(connections: Connections, *, hosts: tuple[str, ...], cookie: str) -> ASGIApp:
    """Return the application.

    Args:
        connections: to the server.
        hosts: names under which it may be asked for, beside `localhost`.
        cookie: the name of the session's cookie.
    """
    routes = [one for view in _VIEWS for one in view.ROUTES]
    app = Starlette(
        routes=[*routes, Mount("/", _Files(directory=STATIC, html=True))],
        exception_handlers=errors.HANDLERS,
    )
    app.state.callers = Callers(connections, cookie)
    return Security(app, hosts)  # around all of it: an answer to a fault has the headers too
