"""`accrete predict` ranks labels for images."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from .._inputs import ImageLike
from .._results import Prediction
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
) -> None:
    """Rank labels for images with the live model version. With --json, print a list with one object per image.

    Example:
        accrete predict photo.jpg --top-k 3
    """
    given: list[ImageLike] = [sys.stdin.buffer.read() if name == "-" else name for name in images]
    with connection.client() as client:
        predictions = client.predict(given, top_k=top_k, features=features, unknown_rate=unknown_rate)
    pairs = zip(images, predictions, strict=True)
    output.show([_json(name, prediction) for name, prediction in pairs], _text(images, predictions))


def _json(name: str, prediction: Prediction) -> dict[str, object]:
    found = plain(prediction)
    if found["features"] is None:
        del found["features"]
    return {"image": name, "label": prediction.label, "doubt": prediction.doubt(), **found}


def _text(names: Sequence[str], predictions: Sequence[Prediction]) -> str:
    rows = [
        (
            "" if place else name,
            one.label,
            one.probability,
            ", ".join(["unknown"] * (prediction.unknown and not place) + ["provisional"] * one.provisional),
        )
        for name, prediction in zip(names, predictions, strict=True)
        for place, one in enumerate(prediction.ranked)
    ]
    versions = sorted({prediction.version for prediction in predictions})
    source = f"version {', '.join(map(str, versions))}, {predictions[-1].timings.total_ms:.1f} ms in the server"
    rate = predictions[-1].false_alarm_rate
    alarms = f", {percent(rate)} of known images are called unknown" if rate else ""
    return f"{table(['image', 'label', 'probability', ''], rows)}\n{source}{alarms}"
