"""`accrete predict` ranks labels for images."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from .._inputs import ImageLike
from .._results import Prediction
from . import exits
from .connection import Connection
from .options import Output
from .output import percent, plain, table


def predict(
    images: Annotated[
        list[str], typer.Argument(metavar="FILE", help="JPEG, PNG, WebP, BMP, AVIF, HEIC or .npy; - reads from stdin.")
    ],
    connection: Connection,
    output: Output,
    top_k: Annotated[int, typer.Option(metavar="N", help="Labels per image.")] = 5,
    features: Annotated[
        bool, typer.Option("--features", help="With --json, print the feature vectors as well.")
    ] = False,
    unknown_rate: Annotated[
        float,
        typer.Option(
            metavar="SHARE",
            show_default=False,
            help="Mark images near no class, with this share of false alarms, such as 0.05. [default: the server's]",
        ),
    ] = 0.0,
) -> int:
    """Rank labels for images with the live model version. With --json, print a list with one object per image.

    Exit status 1 when any image cannot be used; the others are answered all the same. A name for which there is no file
    is wrong usage, and nothing is asked.

    Example:
        accrete predict photo.jpg --top-k 3
    """
    missing = [name for name in images if name != "-" and not os.path.exists(name)]
    if missing:
        raise exits.UsageError(f"{missing[0]}: no such file{exits.and_more(missing)}")
    given: list[ImageLike] = [sys.stdin.buffer.read() if name == "-" else name for name in images]
    with connection.client(spread=True) as client:
        predictions = client.predict(given, top_k=top_k, features=features, unknown_rate=unknown_rate)
    pairs = zip(images, predictions, strict=True)
    output.show([_json(name, prediction) for name, prediction in pairs], _text(images, predictions))
    return exits.FAILED if any(prediction.refused for prediction in predictions) else exits.OK


def _json(name: str, prediction: Prediction) -> dict[str, object]:
    if prediction.refused:
        return {"image": name, "refused": prediction.refused}
    found = plain(prediction)
    del found["refused"]
    if found["features"] is None:
        del found["features"]
    return {"image": name, "label": prediction.label, "doubt": prediction.doubt(), **found}


def _text(names: Sequence[str], predictions: Sequence[Prediction]) -> str:
    refused = [f"refused: {prediction.refused}" for prediction in predictions if prediction.refused]
    answered = [one for one in zip(names, predictions, strict=True) if not one[1].refused]
    return "\n".join([*([_answers(answered)] if answered else []), *refused])


def _answers(answered: Sequence[tuple[str, Prediction]]) -> str:
    rows = [
        (
            "" if place else name,
            one.label,
            one.probability,
            ", ".join(["unknown"] * (prediction.unknown and not place) + ["provisional"] * one.provisional),
        )
        for name, prediction in answered
        for place, one in enumerate(prediction.ranked)
    ]
    versions = sorted({prediction.version for _, prediction in answered})
    last = answered[-1][1]
    source = f"version {', '.join(map(str, versions))}, {last.timings.total_ms:.1f} ms in the server"
    rate = last.false_alarm_rate
    alarms = f", {percent(rate)} of known images are called unknown" if rate else ""
    return f"{table(['image', 'label', 'probability', ''], rows)}\n{source}{alarms}"
