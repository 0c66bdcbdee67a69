"""Predict and teach from a web application, with asyncio.

Start a server (`accrete up`), `pip install starlette uvicorn`, then run

    uvicorn web_handler:app

and call it:

    curl --data-binary @photo.jpg localhost:8000/predict
    curl --data-binary @photo.jpg localhost:8000/teach/heron

One `AsyncClient` serves all requests of the process: it shares its connection, has deadlines, and retries.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from accrete import AccreteError, AsyncClient, InvalidInput, LimitExceeded, NoModel, Unavailable

STATUS = {InvalidInput: 400, NoModel: 409, LimitExceeded: 429, Unavailable: 503}
"""HTTP statuses of errors; all others are 500."""


@contextlib.asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """Keep one client for as long as the application runs."""
    async with AsyncClient(timeout=5.0) as client:
        app.state.client = client
        yield


async def predict(request: Request) -> JSONResponse:
    """Rank labels for the image that is the request's body."""
    found = await request.app.state.client.predict(await request.body(), top_k=3)
    ranked = [{"label": one.label, "probability": one.probability} for one in found.ranked]
    return JSONResponse({"label": found.label, "provisional": found.provisional, "ranked": ranked})


async def teach(request: Request) -> JSONResponse:
    """Store the image that is the request's body under a label."""
    report = await request.app.state.client.add_examples([(request.path_params["label"], await request.body())])
    if report.refused:
        return JSONResponse({"error": report.refused[0].reason}, status_code=400)
    return JSONResponse({"id": report.ids[0], "new": bool(report.stored)})


async def failed(request: Request, error: Exception) -> JSONResponse:
    """Tell an error of the client as one of HTTP."""
    assert isinstance(error, AccreteError)
    status = next((status for kind, status in STATUS.items() if isinstance(error, kind)), 500)
    headers = {} if error.retry_after is None else {"Retry-After": str(math.ceil(error.retry_after))}
    return JSONResponse({"error": str(error)}, status_code=status, headers=headers)


app = Starlette(
    routes=[Route("/predict", predict, methods=["POST"]), Route("/teach/{label}", teach, methods=["POST"])],
    exception_handlers={AccreteError: failed},
    lifespan=lifespan,
)
