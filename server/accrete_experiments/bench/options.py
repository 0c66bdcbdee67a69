"""The options of `accrete bench protocol`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, cast, get_args

import typer

Rule = Literal["knn", "mlp", "svm"]


@dataclass(frozen=True, kw_only=True)
class ProtocolOptions:
    """What `accrete bench protocol` runs."""

    data: Annotated[
        str,
        typer.Option(
            metavar="SOURCE",
            help="cifar100[:DIR], a folder of images per class (or such trees train/ and test/), or packed arrays.",
        ),
    ]
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the runs and results.")]
    trained: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder of first tasks' trainings, which methods share, and protocols of other steps and memories. "
            "[default: trained in --out]",
        ),
    ] = None
    download: Annotated[bool, typer.Option("--download", help="Fetch cifar100 when it is not there.")] = False
    methods: Annotated[str, typer.Option(metavar="NAMES", help="Separated by commas.")] = "lucir"
    seeds: Annotated[str, typer.Option(metavar="NUMBERS", help="Separated by commas.")] = "1993"
    rules: Annotated[
        str, typer.Option(metavar="NAMES", help="Measure knn, mlp or svm on the exemplars too, beside head and nme.")
    ] = ""
    figures: Annotated[bool, typer.Option("--figures", help="Also draw; needs matplotlib.")] = False
    published: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw these points, too: CSV of name, rule (head, nme), classes, percent."),
    ] = None
    live: Annotated[bool, typer.Option("--live", help="Play the same stream through a live server over gRPC too.")] = (
        False
    )
    report: Annotated[bool, typer.Option("--report", help="Run nothing; report and draw what is there.")] = False

    base: Annotated[int, typer.Option(metavar="N", min=1, help="Classes of the first task.")] = 50
    step: Annotated[int, typer.Option(metavar="N", min=1, help="Classes of each later task.")] = 5
    classes: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Use the first N of the order. [default: all]")
    ] = None
    order: Annotated[
        str,
        typer.Option(
            metavar="ORDER", help="1993: the papers' order of CIFAR-100; seed: each seed its own; or a number."
        ),
    ] = "1993"
    per_class: Annotated[int, typer.Option(metavar="N", min=0, help="Use N training images per class; 0: all.")] = 0
    memory: Annotated[
        str,
        typer.Option(
            metavar="N[/class]",
            help="Exemplars: 2000 in total, or 20/class for ever; never mix the two in one table.",
        ),
    ] = "20/class"

    epochs: Annotated[
        str, typer.Option(metavar="N[%]", help="For every method and task, or a share of each method's own.")
    ] = ""
    schedule: Annotated[
        Literal["own", "knee"],
        typer.Option(
            help="own: by steps, as in each method's paper; knee: high, then linearly to nothing, for a quarter of the "
            "epochs (--epochs 25%)."
        ),
    ] = "own"
    exemplar_pixels: Annotated[Literal["uint8", "float16"], typer.Option(help="How made exemplars are kept.")] = "uint8"
    synthesis_iterations: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Of mnemonics and inversion. [default: their own]")
    ] = None
    batch_size: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Examples per batch. [default: the method's own]")
    ] = None
    copies: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Times an epoch takes each image. [default: the method's own]"),
    ] = None
    augmentation: Annotated[
        Literal["auto", "none", "crop", "crop_flip", "eeil", "strong", "trivial"],
        typer.Option(
            help="auto: that of each method's paper; strong: AutoAugment and Cutout, worth 8 to 9 points in any table."
        ),
    ] = "auto"
    precision: Annotated[Literal["auto", "float32", "bfloat16"], typer.Option(help="Of training.")] = "auto"
    compile: Annotated[bool, typer.Option("--compile", help="By torch.compile, on a GPU with captured graphs.")] = False
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to train.")] = "auto"
    threads: Annotated[int, typer.Option(metavar="N", help="CPU threads; 0: all cores.")] = 0
    backbone: Annotated[
        str, typer.Option(metavar="NAME", help="Network. [default: resnet32 unless the data are embeddings]")
    ] = ""
    weights: Annotated[str, typer.Option(metavar="FILE", help="What the backbone starts from. [default: random]")] = ""
    size: Annotated[
        int | None, typer.Option(metavar="PIXELS", min=1, help="Height and width. [default: the data's]")
    ] = None
    shorter_side: Annotated[
        int | None,
        typer.Option(
            metavar="PIXELS",
            min=0,
            help="With --size, what an image's shorter side is brought to before its middle is taken; 0: stretch it. "
            "[default: the network's, as model.shorter_side]",
        ),
    ] = None

    @property
    def seed_numbers(self) -> tuple[int, ...]:
        """The seeds. Raises ValueError for what is no number."""
        parts = [part.strip() for part in self.seeds.split(",")]
        if not all(part.isdecimal() for part in parts):
            raise ValueError(f"--seeds {self.seeds}: whole numbers separated by commas are allowed")
        return tuple(map(int, parts))

    @property
    def rule_names(self) -> tuple[Rule, ...]:
        """The rules. Raises ValueError for one that does not exist."""
        asked = [part.strip() for part in self.rules.split(",") if part.strip()]
        if not set(asked) <= {*get_args(Rule)}:
            raise ValueError(f"--rules {self.rules}: knn, mlp and svm are allowed, separated by commas")
        return cast(tuple[Rule, ...], tuple(asked))
