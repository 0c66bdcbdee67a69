"""Measuring the live version on a folder of images: they are read, sent and counted a call at a time."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Sequence
from functools import partial

from .._errors import InvalidInput
from .._evaluation import Evaluation, Evaluator, RefusedImage
from .._inputs import Example, image_message, source_of
from .._transport.batching import batches
from .._transport.caller import Caller
from ..v1 import types_pb2
from . import operation, prediction
from .folder import find_images
from .progress import Report, shown

_Sent = tuple[Example, types_pb2.Image]


async def evaluate(
    caller: Caller,
    path: str | os.PathLike[str],
    *,
    threshold: float,
    unknown_rate: float,
    worst: int,
    progress: bool | Report,
    timeout: float | None,
) -> Evaluation:
    """Measure on a tree of images with one folder per label. Raises InvalidInput when there are none."""
    if not 0 <= threshold <= 1:
        raise InvalidInput(f"threshold = {threshold}: 0 to 1 is allowed")
    if not 0 <= unknown_rate <= 0.5:
        raise InvalidInput(f"unknown_rate = {unknown_rate}: 0 to 0.5 is allowed")
    if worst < 0:
        raise InvalidInput(f"worst = {worst}: 0 or more is allowed")
    found = await caller.transport.offload(lambda: find_images(path))
    known = [one.label for one in await operation.classes(caller, timeout) if one.state in ("learned", "provisional")]
    evaluator = Evaluator(known, threshold=threshold, worst=worst)
    refused: list[RefusedImage] = []
    options = prediction.Options(top_k=1, unknown_rate=unknown_rate)
    done, total = 0, len(found.examples)
    with shown(progress, "images") as report:
        report(0, total)
        messages = _messages(caller, found.examples, refused)
        async for batch in batches(messages, count=prediction.MAX_IMAGES, limit=prediction.MAX_BYTES, size=_size):
            answers = await prediction.answered(caller, [message for _, message in batch], options, timeout)
            for (example, _), outcome in zip(batch, answers, strict=True):
                if isinstance(outcome, str):
                    refused.append(_refused(example, outcome))
                else:
                    evaluator.add(source_of(example.image), example.label, outcome)
                    done += 1
            report(done + len(refused), total)
        report(total, total)
    return evaluator.result(refused, found.skipped)


async def _messages(
    caller: Caller, examples: Sequence[Example], refused: list[RefusedImage]
) -> AsyncGenerator[_Sent, None]:
    """Yield each image as it is sent, read when its turn comes; one that cannot be read is refused."""
    for example in examples:
        try:
            message = await caller.transport.offload(partial(image_message, example.image))
        except InvalidInput as error:
            refused.append(_refused(example, error.details))
        else:
            yield example, message


def _size(sent: _Sent) -> int:
    return sent[1].ByteSize()


def _refused(example: Example, reason: str) -> RefusedImage:
    return RefusedImage(file=source_of(example.image), label=example.label, reason=reason)
