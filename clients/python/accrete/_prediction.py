"""Predicting: images to messages, messages to answers, split where one call cannot carry them all."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import cast

from ._config import MAX_MESSAGE_BYTES
from ._core import Core, batches, each
from ._errors import IncompatibleServer, InvalidInput, LimitExceeded, NoModel, NotNow
from ._inputs import ImageLike, image_message, is_one, is_quick, source_of
from ._methods import PREDICT
from ._results import Prediction
from ._wire import predictions
from .v1 import prediction_pb2, types_pb2

MAX_IMAGES = 64  # in one call; the server's default limit
MAX_BYTES = MAX_MESSAGE_BYTES // 2


async def predict(
    core: Core,
    images: ImageLike | Iterable[ImageLike],
    *,
    top_k: int,
    features: bool,
    unknown_rate: float,
    timeout: float | None,
) -> Prediction | list[Prediction]:
    """One answer for one image, a list for several; `timeout` is for each call that the images are split into."""
    single = is_one(images)
    given = cast(list[ImageLike], [images] if single else list(cast(Iterable[ImageLike], images)))
    messages = [await _message(core, image, index) for index, image in enumerate(given)]
    answers: list[Prediction] = []
    async for batch in batches(each(messages), count=MAX_IMAGES, limit=MAX_BYTES, size=types_pb2.Image.ByteSize):
        request = prediction_pb2.PredictRequest(images=batch, top_k=top_k, features=features, unknown_rate=unknown_rate)
        answers += await _send(core, request, timeout, given, offset=len(answers))
    return answers[0] if single else answers


async def _message(core: Core, image: ImageLike, index: int) -> types_pb2.Image:
    try:
        return image_message(image) if is_quick(image) else await core.transport.offload(lambda: image_message(image))
    except InvalidInput as problem:
        raise InvalidInput(f"images[{index}]: {problem.details}") from problem


def _named(details: str, given: Sequence[ImageLike], offset: int) -> str:
    """A server's "images[3]: ...", which counts within its call, by the caller's own count and the file's name."""

    def name(found: re.Match[str]) -> str:
        index = offset + int(found[1])
        source = source_of(given[index]) if index < len(given) else ""
        return f"images[{index}]: {source}: " if source else f"images[{index}]: "

    return re.sub(r"^images\[(\d+)\]: ", name, details)


async def _send(
    core: Core,
    request: prediction_pb2.PredictRequest,
    timeout: float | None,
    given: Sequence[ImageLike],
    offset: int,
) -> list[Prediction]:
    """Answers for the images of a request, which begin at `offset` of what was given; halved while the server says
    that it is too much at once."""
    try:
        response = await core.call(PREDICT, request, timeout)
    except LimitExceeded as problem:
        if problem.retry_after is not None or len(request.images) == 1:
            raise
    except NotNow as problem:
        raise NoModel(problem.details, attempts=problem.attempts) from problem
    except InvalidInput as problem:
        problem.details = _named(problem.details, given, offset)
        raise
    else:
        if len(response.predictions) != len(request.images):
            raise IncompatibleServer(f"{len(response.predictions)} answers for {len(request.images)} images")
        return predictions(response, features=request.features)
    answers: list[Prediction] = []
    for part in _halves(request):
        answers += await _send(core, part, timeout, given, offset + len(answers))
    return answers


def _halves(request: prediction_pb2.PredictRequest) -> list[prediction_pb2.PredictRequest]:
    middle = len(request.images) // 2
    return [
        prediction_pb2.PredictRequest(
            images=part, top_k=request.top_k, features=request.features, unknown_rate=request.unknown_rate
        )
        for part in (request.images[:middle], request.images[middle:])
    ]
