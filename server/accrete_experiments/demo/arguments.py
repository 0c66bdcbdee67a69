"""The demonstration's command line."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_arguments(subparsers: Any) -> None:
    """Add `accrete demo`."""
    parser = subparsers.add_parser(
        "demo",
        help="the whole loop on real images: teach, learn, swap, measure",
        description=(
            "Starts the store, the server and the learner as separate processes in a temporary folder, then acts as\n"
            "an application: it teaches the classes a few at a time while a steady flow of Predict calls runs, and\n"
            "after each version measures it on test images that were never taught. It ends by itself and leaves\n"
            "nothing running.\n\n"
            "Without --data: handwritten digits that ship with scikit-learn, 4 classes first, then 2 at a time.\n\n"
            "example: accrete demo --method finetune     (what happens without a method that remembers)\n"
            "example: accrete demo --data photos/ --first 10 --per-step 5 --summary figures.json"
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--data", metavar="DIR", type=Path, help="a folder of images a class, or such trees train/ and test/"
    )
    parser.add_argument("--method", metavar="NAME", default="lucir", help="one of docs/methods.md (default: lucir)")
    parser.add_argument(
        "--rule", choices=("head", "nme", "knn", "mlp", "svm"), default="", help="how a version predicts"
    )
    parser.add_argument(
        "--first", metavar="N", type=_positive, default=4, help="classes of the first step (default: 4)"
    )
    parser.add_argument(
        "--per-step", metavar="N", type=_positive, default=2, help="classes of each later step (default: 2)"
    )
    parser.add_argument("--classes", metavar="N", type=_positive, help="use N classes of --data (default: all)")
    parser.add_argument("--seed", metavar="N", type=_seed, default=1, help="of every random choice (default: 1)")
    parser.add_argument("--base-epochs", metavar="N", type=_positive, help="epochs of the first step")
    parser.add_argument("--epochs", metavar="N", type=_positive, help="epochs of each later step")
    parser.add_argument("--learning-rate", metavar="X", type=_above_zero, help="of SGD")
    parser.add_argument("--batch-size", metavar="N", type=_positive, help="examples a training batch")
    parser.add_argument("--backbone", metavar="NAME", help="network (default: one that suits the images' size)")
    parser.add_argument(
        "--input-size", metavar="PIXELS", type=_positive, help="of a side (default: the images', up to 64)"
    )
    parser.add_argument("--budget", metavar="N", type=_positive, default=20, help="exemplars a class (default: 20)")
    parser.add_argument(
        "--rate", metavar="N", type=_above_zero, default=40.0, help="Predict calls a second (default: 40)"
    )
    parser.add_argument(
        "--idle", metavar="SECONDS", type=_above_zero, default=3.0, help="rest after each version (default: 3)"
    )
    parser.add_argument(
        "--step-timeout", metavar="SECONDS", type=_above_zero, default=1800.0, help="for one step (default: 1800)"
    )
    parser.add_argument(
        "--engine", choices=("onnxruntime", "torch"), default="onnxruntime", help="what computes answers"
    )
    parser.add_argument("--summary", metavar="FILE", type=Path, help="also write the figures as JSON")
    parser.add_argument(
        "--keep", metavar="DIR", type=Path, help="data directory to use and keep (default: a temporary one)"
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from accrete_experiments.demo.run import run

    return run(arguments)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: a whole number from 1 up is allowed")
    return int(text)


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r}: a whole number from 0 to 2**32 - 1 is allowed")
    return int(text)


def _above_zero(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r}: a number above 0 is allowed")
    return value
