"""`accrete predict`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from .._inputs import ImageLike
from .._results import Prediction
from . import exits, output
from .connection import Subparsers, add_command, connect


def add_predict(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    command = add_command(
        subparsers,
        "predict",
        summary="rank labels for images",
        description="Ranks labels for images with the live model version.",
        example="accrete predict photo.jpg --top-k 3",
        json="print a list with one object for each image",
    )
    command.add_argument("images", nargs="+", metavar="FILE", help="JPEG, PNG, WebP, BMP or .npy; - reads from stdin")
    command.add_argument("--top-k", type=int, default=5, metavar="N", help="labels for each image (default: 5)")
    command.add_argument("--features", action="store_true", help="with --json, also print the feature vectors")
    command.add_argument(
        "--unknown-rate",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="mark images near no class, with this share of false alarms, such as 0.05 (default: the server's)",
    )
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    images: list[ImageLike] = [sys.stdin.buffer.read() if name == "-" else name for name in options.images]
    with connect(options) as client:
        predictions = client.predict(
            images, top_k=options.top_k, features=options.features, unknown_rate=options.unknown_rate
        )
    if options.json:
        print(output.to_json([_json(*pair) for pair in zip(options.images, predictions, strict=True)]))
    else:
        print(_text(options.images, predictions))
    return exits.OK


def _json(name: str, prediction: Prediction) -> dict[str, object]:
    found = output.plain(prediction)
    if found["features"] is None:
        del found["features"]
    return {"image": name, "label": prediction.label, **found}


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
    answered = f"version {', '.join(map(str, versions))}, {predictions[-1].timings.total_ms:.1f} ms in the server"
    rate = predictions[-1].false_alarm_rate
    alarms = f", {output.percent(rate)} of known images are called unknown" if rate else ""
    return f"{output.table(['image', 'label', 'probability', ''], rows)}\n{answered}{alarms}"
