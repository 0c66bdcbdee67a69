"""Predict calls, which are split where one cannot carry all images."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

from .._config import MAX_MESSAGE_BYTES
from .._errors import IncompatibleServer, InvalidInput, LimitExceeded, NoModel, NotNow
from .._inputs import ImageLike, image_message, is_one, is_quick, size_of, source_of
from .._results import Prediction, Timings
from .._transport.batching import batches, each
from .._transport.caller import Caller
from .._transport.methods import PREDICT
from ..v1 import prediction_pb2, types_pb2
from .decoding import predictions

MAX_IMAGES = 64  # in one call; the server's default limit
MAX_BYTES = MAX_MESSAGE_BYTES // 2
ENOUGH = 16  # images, beside which a call itself costs little
WINDOW = 8  # calls; four on their way for each turn of a server on two cores


_NAMED = re.compile(r"^images\[(\d+)\]: ")
_NO_TIMINGS = Timings(decode_ms=0.0, queue_ms=0.0, compute_ms=0.0, total_ms=0.0)

Answer = Prediction | str
"""What became of an image: its prediction, or why it was refused."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is asked about each image."""

    top_k: int
    features: bool = False
    unknown_rate: float = 0.0

    def request(self, images: Iterable[types_pb2.Image]) -> prediction_pb2.PredictRequest:
        """Return the request for some images."""
        return prediction_pb2.PredictRequest(
            images=images, top_k=self.top_k, features=self.features, unknown_rate=self.unknown_rate
        )


async def predict(
    caller: Caller, images: ImageLike | Iterable[ImageLike], options: Options, window: int, timeout: float | None
) -> Prediction | list[Prediction]:
    """Return a prediction for one image, a list for several.

    Several are split into as many calls as their number and size need, `window` of them under way at once: while the
    server computes some, others are on their way, and files are read for the next. `timeout` is for each of them.

    Raises:
        InvalidInput: one image cannot be used, of several it is told in its place; or the window is below 1.
    """
    if window < 1:
        raise InvalidInput(f"window {window}: 1 or more calls are allowed")
    if is_one(images):
        return await _predict_one(caller, cast(ImageLike, images), options, timeout)
    given = list(cast(Iterable[ImageLike], images))
    works = [partial(answers_of, caller, given, part, options, timeout) for part in await split(caller, given, window)]
    answers = await caller.transport.together(works, window) if len(works) > 1 else [await work() for work in works]
    found = [answer for some in answers for answer in some]
    return [
        _refused(image, index, one) if isinstance(one, str) else one
        for index, (image, one) in enumerate(zip(given, found, strict=True))
    ]


async def split(caller: Caller, given: Sequence[ImageLike], window: int) -> list[list[int]]:
    """Return which of the images to send by which call, so that the server has work for `window` of them."""
    sizes = await caller.transport.offload(lambda: [size_of(image) for image in given])
    calls = max(1, -(-len(given) // MAX_IMAGES))
    if calls > 1:  # then as many as may be under way: the server may have turns for all of them
        calls = max(calls, min(window, -(-len(given) // ENOUGH)))
    # Even parts: a rest of a few images would leave the server's other turns with nothing to do.
    even = batches(each(range(len(given))), count=-(-len(given) // calls), limit=MAX_BYTES, size=lambda i: sizes[i])
    return [part async for part in even]


async def answers_of(
    caller: Caller, given: Sequence[ImageLike], part: Sequence[int], options: Options, timeout: float | None
) -> list[Answer]:
    """Return the answers to some of the images, by one call as far as they are no larger than they seemed."""
    found: dict[int, Answer] = {}

    async def messages() -> AsyncGenerator[tuple[int, types_pb2.Image], None]:
        for index in part:
            try:
                yield index, await _message(caller, given[index])
            except InvalidInput as error:
                found[index] = error.details

    batched = batches(messages(), count=MAX_IMAGES, limit=MAX_BYTES, size=lambda one: one[1].ByteSize())
    async for batch in batched:
        answers = await _answered(caller, [message for _, message in batch], options, timeout)
        found |= {index: answer for (index, _), answer in zip(batch, answers, strict=True)}
    return [found[index] for index in part]


async def _predict_one(caller: Caller, image: ImageLike, options: Options, timeout: float | None) -> Prediction:
    try:
        message = await _message(caller, image)
    except InvalidInput as error:
        error.details = _told(image, 0, error.details)
        raise
    try:
        found = await send(caller, options.request([message]), timeout)
    except (InvalidInput, LimitExceeded) as error:
        error.details = _told(image, 0, error.details) if _NAMED.match(error.details) else error.details
        raise
    return found[0]


async def _answered(
    caller: Caller, images: Sequence[types_pb2.Image], options: Options, timeout: float | None
) -> list[Answer]:
    """Return the answer for each image of one call.

    An image that cannot be used fails a call, which is made again without it, with the fewer images the more of them
    were refused: each refusal costs the decoding of the others.

    Raises:
        AccreteError: the call fails for another reason than one of its images.
    """
    found: dict[int, Answer] = {}
    while left := [index for index in range(len(images)) if index not in found]:
        refusals = sum(isinstance(one, str) for one in found.values())
        left = left[: max(1, len(images) // max(1, refusals))]
        request = options.request([images[index] for index in left])
        try:
            predictions = await send(caller, request, timeout)
        except (InvalidInput, LimitExceeded) as error:
            named = _NAMED.match(error.details)
            if named is None or int(named[1]) >= len(left):
                raise
            found[left[int(named[1])]] = _NAMED.sub("", error.details)
        else:
            found |= dict(zip(left, predictions, strict=True))
    return [found[index] for index in range(len(images))]


async def _message(caller: Caller, image: ImageLike) -> types_pb2.Image:
    return image_message(image) if is_quick(image) else await caller.transport.offload(lambda: image_message(image))


def _refused(image: ImageLike, index: int, reason: str) -> Prediction:
    return Prediction(ranked=(), version=0, timings=_NO_TIMINGS, refused=_told(image, index, reason))


def _told(image: ImageLike, index: int, reason: str) -> str:
    """Return why an image is refused, after the name of its file or else its place among those given."""
    source, reason = source_of(image), _NAMED.sub("", reason)
    if source:
        return reason if reason.startswith(f"{source}: ") else f"{source}: {reason}"
    return f"images[{index}]: {reason}"


async def send(
    caller: Caller, request: prediction_pb2.PredictRequest, timeout: float | None, offset: int = 0
) -> list[Prediction]:
    """Return predictions for the images of a request, which begin at `offset` of what a caller counts.

    The request is halved while the server says that it is too much at once.
    """
    try:
        response = await caller.call(PREDICT, request, timeout)
    except LimitExceeded as error:
        if error.retry_after is not None:
            raise
        if len(request.images) == 1:
            error.details = f"images[{offset}]: {_NAMED.sub('', error.details)}"
            raise
    except NotNow as error:
        raise NoModel(error.details, attempts=error.attempts) from error
    except InvalidInput as error:
        error.details = _NAMED.sub(lambda found: f"images[{offset + int(found[1])}]: ", error.details)
        raise
    else:
        if len(response.predictions) != len(request.images):
            raise IncompatibleServer(f"{len(response.predictions)} predictions for {len(request.images)} images")
        return predictions(response, features=request.features)
    found: list[Prediction] = []
    for part in _halves(request):
        found += await send(caller, part, timeout, offset + len(found))
    return found


def _halves(request: prediction_pb2.PredictRequest) -> list[prediction_pb2.PredictRequest]:
    middle = len(request.images) // 2
    return [
        prediction_pb2.PredictRequest(
            images=part, top_k=request.top_k, features=request.features, unknown_rate=request.unknown_rate
        )
        for part in (request.images[:middle], request.images[middle:])
    ]
