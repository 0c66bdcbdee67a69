"""BentoML: a service with one worker; the image is the body of a request to an application mounted on it, since its own
way takes JSON or forms."""

from __future__ import annotations

import os

import bentoml
from model import Model
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route


async def classify(request: Request) -> JSONResponse:
    """POST /raw/predict."""
    return JSONResponse(bentoml.get_current_service().model.answer(await request.body()))


application = Starlette(routes=[Route("/predict", classify, methods=["POST"])])


@bentoml.service(workers=int(os.environ["PEER_WORKERS"]), logging={"access": {"enabled": False}})
@bentoml.asgi_app(application, path="/raw")
class Classify:
    """Takes one image's bytes, gives {"label", "probability"}."""

    def __init__(self) -> None:
        self.model = Model()
