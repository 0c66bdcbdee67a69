"""Predict calls, which are split where one cannot carry all images."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import cast

from .._config import MAX_MESSAGE_BYTES
from .._errors import IncompatibleServer, InvalidInput, LimitExceeded, NoModel, NotNow
from .._inputs import ImageLike, image_message, is_one, is_quick, source_of
from .._results import Prediction
from .._transport.batching import batches, each
from .._transport.caller import Caller
from .._transport.methods import PREDICT
from ..v1 import prediction_pb2, types_pb2
from .decoding import predictions

MAX_IMAGES = 64  # in one call; the server's default limit
MAX_BYTES = MAX_MESSAGE_BYTES // 2


async def predict(
    caller: Caller,
    images: ImageLike | Iterable[ImageLike],
    *,
    top_k: int,
    features: bool,
    unknown_rate: float,
    timeout: float | None,
) -> Prediction | list[Prediction]:
    """Return a prediction for one image, a list for several; `timeout` is for each call that they are split into."""
    single = is_one(images)
    given = cast(list[ImageLike], [images] if single else list(cast(Iterable[ImageLike], images)))
    messages = [await _message(caller, image, index) for index, image in enumerate(given)]
    found: list[Prediction] = []
    async for batch in batches(each(messages), count=MAX_IMAGES, limit=MAX_BYTES, size=types_pb2.Image.ByteSize):
        request = prediction_pb2.PredictRequest(images=batch, top_k=top_k, features=features, unknown_rate=unknown_rate)
        found += await send(caller, request, timeout, given, offset=len(found))
    return found[0] if single else found


async def _message(caller: Caller, image: ImageLike, index: int) -> types_pb2.Image:
    try:
        return image_message(image) if is_quick(image) else await caller.transport.offload(lambda: image_message(image))
    except InvalidInput as error:
        raise InvalidInput(f"images[{index}]: {error.details}") from error


def _named(details: str, given: Sequence[ImageLike], offset: int) -> str:
    """Rewrite a server's "images[3]: ...", which counts within its call, to the caller's count and the file's name."""

    def name(found: re.Match[str]) -> str:
        index = offset + int(found[1])
        source = source_of(given[index]) if index < len(given) else ""
        return f"images[{index}]: {source}: " if source else f"images[{index}]: "

    return re.sub(r"^images\[(\d+)\]: ", name, details)


async def send(
    caller: Caller,
    request: prediction_pb2.PredictRequest,
    timeout: float | None,
    given: Sequence[ImageLike] = (),
    offset: int = 0,
) -> list[Prediction]:
    """Return predictions for the images of a request, which begin at `offset` of what was given.

    The request is halved while the server says that it is too much at once.
    """
    try:
        response = await caller.call(PREDICT, request, timeout)
    except LimitExceeded as error:
        if error.retry_after is not None or len(request.images) == 1:
            raise
    except NotNow as error:
        raise NoModel(error.details, attempts=error.attempts) from error
    except InvalidInput as error:
        error.details = _named(error.details, given, offset)
        raise
    else:
        if len(response.predictions) != len(request.images):
            raise IncompatibleServer(f"{len(response.predictions)} predictions for {len(request.images)} images")
        return predictions(response, features=request.features)
    found: list[Prediction] = []
    for part in _halves(request):
        found += await send(caller, part, timeout, given, offset + len(found))
    return found


def _halves(request: prediction_pb2.PredictRequest) -> list[prediction_pb2.PredictRequest]:
    middle = len(request.images) // 2
    return [
        prediction_pb2.PredictRequest(
            images=part, top_k=request.top_k, features=request.features, unknown_rate=request.unknown_rate
        )
        for part in (request.images[:middle], request.images[middle:])
    ]
