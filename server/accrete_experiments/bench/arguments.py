"""The command line of the protocols."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

_DESCRIPTION = """\
Runs methods through a class-incremental protocol: classes arrive in phases, and after each phase every class seen so
far is measured on test images that nothing else has seen. Every method gets the same classes, order, memory,
augmentation and test images. Killed at any time, the same command goes on where it was; started twice on the same
--out, two processes share the work.

A method is NAME, NAME+SELECTION, NAME@RULE or NAME+SELECTION@RULE, as in icarl@head, lucir+mnemonics or
finetune+random@knn; ~NAME trains later phases by weight transfer. docs/methods.md has all names.

--out gets results.json, results.md, and with --figures accuracy curves, confusion matrices, features and exemplars.

example: accrete bench protocol --data cifar100:datasets --methods lucir,icarl,lwf --base 50 --step 5 --out b50
example: accrete bench protocol --data photos/ --methods lucir --base 10 --step 5 --epochs 16 --seeds 1,2 --out photos
"""


def add_arguments(subparsers: Any) -> None:
    """Add `accrete bench protocol`."""
    bench = subparsers.add_parser("bench", help="class-incremental protocols: methods compared like with like")
    inner = bench.add_subparsers(required=True, metavar="WHAT")
    parser = inner.add_parser(
        "protocol",
        help="methods through a stream of classes",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_what(parser)
    _add_stream(parser)
    _add_training(parser)
    parser.set_defaults(run=_run)


def _add_what(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        metavar="SOURCE",
        required=True,
        help="cifar100[:DIR], a folder of images a class (or such trees train/ and test/), or packed arrays",
    )
    parser.add_argument("--download", action="store_true", help="fetch cifar100 when it is not there")
    parser.add_argument("--methods", metavar="NAMES", default="lucir", help="separated by commas (default: lucir)")
    parser.add_argument(
        "--seeds", metavar="NUMBERS", default="1993", type=_numbers, help="separated by commas (default: 1993)"
    )
    parser.add_argument(
        "--rules",
        metavar="NAMES",
        default=(),
        type=_rules,
        help="measure knn, mlp or svm on the exemplars too, beside head and nme",
    )
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="folder of the runs and results")
    parser.add_argument("--figures", action="store_true", help="also draw; needs matplotlib")
    parser.add_argument("--live", action="store_true", help="play the same stream through a live server over gRPC too")
    parser.add_argument("--report", action="store_true", help="run nothing; report and draw what is there")


def _add_stream(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--base", metavar="N", type=_positive, default=50, help="classes of the first phase (50)")
    parser.add_argument("--step", metavar="N", type=_positive, default=5, help="classes of each later phase (5)")
    parser.add_argument("--classes", metavar="N", type=_positive, help="use the first N of the order (default: all)")
    parser.add_argument(
        "--order",
        metavar="ORDER",
        default="1993",
        help="1993: the papers' order of CIFAR-100; seed: each seed its own; or a number (default: 1993)",
    )
    parser.add_argument("--per-class", metavar="N", type=_positive, default=0, help="use N training images a class")
    parser.add_argument(
        "--memory",
        metavar="N[/class]",
        default="20/class",
        help="exemplars: 2000 in total, or 20/class for ever; never mix the two in one table (default: 20/class)",
    )


def _add_training(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--epochs", metavar="N[%]", default="", help="for every method and phase, or a share of each method's own"
    )
    parser.add_argument(
        "--exemplar-pixels", choices=("uint8", "float16"), default="uint8", help="how made exemplars are kept (uint8)"
    )
    parser.add_argument(
        "--synthesis-iterations", metavar="N", type=_positive, help="of mnemonics and inversion (default: their own)"
    )
    parser.add_argument("--batch-size", metavar="N", type=_positive, default=128, help="examples a batch (128)")
    parser.add_argument(
        "--copies", metavar="N", type=_positive, help="times an epoch takes each image (default: the method's own)"
    )
    parser.add_argument(
        "--augmentation",
        choices=("auto", "none", "crop", "crop_flip", "eeil", "strong"),
        default="auto",
        help="auto: each method's paper's; strong: AutoAugment and Cutout, worth 8 to 9 points in any table",
    )
    parser.add_argument("--precision", choices=("auto", "float32", "bfloat16"), default="auto", help="of training")
    parser.add_argument("--compile", action="store_true", help="by torch.compile, on a GPU with captured graphs")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to train")
    parser.add_argument("--threads", metavar="N", type=int, default=0, help="CPU threads (default: all cores)")
    parser.add_argument("--backbone", metavar="NAME", default="", help="resnet32 unless the data are embeddings")
    parser.add_argument("--weights", metavar="FILE", default="", help="what the backbone starts from (default: random)")
    parser.add_argument("--size", metavar="PIXELS", type=_positive, help="height and width (default: the data's)")


def _run(arguments: argparse.Namespace) -> int:
    from accrete_experiments.bench.protocol import run

    return run(arguments)


def _rules(text: str) -> tuple[str, ...]:
    asked = tuple(part.strip() for part in text.split(","))
    if not set(asked) <= {"knn", "mlp", "svm"}:
        raise argparse.ArgumentTypeError(f"{text!r}: knn, mlp and svm are allowed, separated by commas")
    return asked


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: a whole number from 1 up is allowed")
    return int(text)


def _numbers(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r}: whole numbers separated by commas are allowed")
    return tuple(int(part) for part in parts)
