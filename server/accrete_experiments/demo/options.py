"""The options of `accrete demo`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer


def _above_zero(value: float | None) -> float | None:
    if value is not None and not 0 < value < math.inf:
        raise typer.BadParameter(f"{value}: a number above 0 is allowed")
    return value


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """What `accrete demo` shows."""

    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A folder of photographs per class, or such trees train/ and test/."),
    ] = None
    method: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="One of docs/methods.md. [default: analytic with --data, unless --backbone names a network that has "
            "to be trained; else lucir]",
        ),
    ] = None
    rule: Annotated[
        Literal["head", "nme", "knn", "mlp", "svm"] | None, typer.Option(help="How a version predicts.")
    ] = None
    first: Annotated[int, typer.Option(metavar="N", min=1, help="Classes of the first step.")] = 4
    per_step: Annotated[int, typer.Option(metavar="N", min=1, help="Classes of each later step.")] = 2
    classes: Annotated[int | None, typer.Option(metavar="N", min=1, help="Use N classes of --data. [default: all]")] = (
        None
    )
    seed: Annotated[int, typer.Option(metavar="N", min=0, max=2**32 - 1, help="Of every random choice.")] = 1
    base_epochs: Annotated[int | None, typer.Option(metavar="N", min=1, help="Epochs of the first step.")] = None
    epochs: Annotated[int | None, typer.Option(metavar="N", min=1, help="Epochs of each later step.")] = None
    learning_rate: Annotated[
        float | None, typer.Option(metavar="X", callback=_above_zero, help="Learning rate of SGD.")
    ] = None
    batch_size: Annotated[int | None, typer.Option(metavar="N", min=1, help="Examples per training batch.")] = None
    backbone: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Network. [default: that of the preset photographs; to train, one of the images' size]"
        ),
    ] = None
    input_size: Annotated[
        int | None,
        typer.Option(metavar="PIXELS", min=1, help="Of a side. [default: the network's; to train, up to 64]"),
    ] = None
    budget: Annotated[int, typer.Option(metavar="N", min=1, help="Exemplars per class.")] = 20
    rate: Annotated[
        float | None,
        typer.Option(
            metavar="N", callback=_above_zero, help="Predict calls per second. [default: 40; photographs at once: 10]"
        ),
    ] = None
    idle: Annotated[float, typer.Option(metavar="SECONDS", callback=_above_zero, help="Rest after each version.")] = 3.0
    step_timeout: Annotated[float, typer.Option(metavar="SECONDS", callback=_above_zero, help="For one step.")] = 1800.0
    engine: Annotated[Literal["onnxruntime", "torch"], typer.Option(help="What computes the predictions.")] = (
        "onnxruntime"
    )
    summary: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write the figures as JSON.")] = None
    page: Annotated[
        bool, typer.Option("--page", help="Also serve the page, and leave all of it running at the end until Ctrl-C.")
    ] = False
    keep: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Data directory to use and keep. [default: a temporary one]"),
    ] = None
