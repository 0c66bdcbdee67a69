"""The commands `accrete demo` and `accrete bench`, found by entry points as those of `accrete_node.commands` are."""

from __future__ import annotations

import typer

from accrete_experiments.bench.options import ProtocolOptions
from accrete_experiments.demo.options import DemoOptions

bench = typer.Typer(help="Compare methods like with like on class-incremental protocols.")


def demo(options: DemoOptions) -> int:
    """Show the whole loop on real images: teach, learn, swap, measure.

    Start the store, the server and the learner as separate processes in a temporary folder, then act as an application:
    teach the classes a few at a time while a steady flow of Predict calls runs, and after each version measure it on
    test images that were never taught. It ends by itself and leaves nothing running.

    Without --data, a small network is trained on handwritten digits, 4 classes first, then 2 at a time. With --data,
    photographs are learned at once, in closed form on a frozen network, as `accrete up` does it with nothing set.

    Example:
        accrete demo --method finetune     (what happens without a method that remembers)
        accrete demo --data photos/ --first 10 --per-step 5 --summary figures.json
    """
    from accrete_experiments.demo.run import run

    return run(options)


@bench.command()
def protocol(options: ProtocolOptions) -> int:
    """Run methods through a class-incremental protocol.

    Classes arrive in tasks, and after each task every class seen so far is measured on test images that nothing else
    has seen. Every method gets the same classes, order, memory, augmentation and test images. Killed at any time, the
    same command goes on where it was, from a copy of --out on another machine too; started twice on the same --out, two
    processes share the work.

    A method is NAME, NAME+SELECTION, NAME@RULE or NAME+SELECTION@RULE, as in icarl@head, lucir+mnemonics or
    finetune+random@knn; ~NAME trains later tasks by weight transfer. docs/methods.md has all names.

    --out gets results.json, .md, .csv and .tex, and with --figures accuracy curves, confusion matrices, features and
    exemplars as PNG, PDF and SVG. progress.txt there says how far it is, as do the lines where there is no terminal.

    Example:
        accrete bench protocol --data cifar100:datasets --methods lucir,icarl,lwf --base 50 --step 5 --out b50
        accrete bench protocol --data photos/ --methods lucir --base 10 --step 5 --epochs 16 --seeds 1,2 --out photos
    """
    from accrete_experiments.bench.protocol import run

    return run(options)
