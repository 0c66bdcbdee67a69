"""`accrete eval` measures the live version on images kept aside."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from .._calls.folder import told
from .._evaluation import Evaluation, Share
from .._results import SURE
from . import exits
from .connection import Connection
from .options import Output
from .output import counted, percent, plain, table

_SHOWN = 20  # rows of a table for people; JSON has all


def eval(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="One folder of images for each label.")],
    connection: Connection,
    output: Output,
    threshold: Annotated[
        float, typer.Option(metavar="P", help="Probability below which a person would be asked.")
    ] = SURE,
    unknown_rate: Annotated[
        float,
        typer.Option(
            metavar="SHARE",
            show_default=False,
            help="Mark images near no class, with this share of false alarms, such as 0.05. [default: the server's]",
        ),
    ] = 0.0,
    worst: Annotated[int, typer.Option(metavar="N", help="The most probable wrong answers to list.")] = 10,
) -> int:
    """Measure the live version on images that were kept aside, and store nothing.

    Tells how many are right, with a 95 % interval; the same by class; what is taken for what; how far probabilities
    are from the share that is right; how many are unknown, provisional or doubtful; and the most probable wrong
    answers. Labels that the model does not know are counted apart. To measure another version, activate it first.

    Exit status 1 when an image could not be used; the others are measured all the same.

    Example:
        accrete eval photos-kept-aside/
        accrete eval photos-kept-aside/ --json | jq .all
    """
    if not folder.is_dir():
        raise exits.UsageError(f"{folder}: no such folder")
    with connection.client(spread=True) as client:
        found = client.evaluate(folder, threshold=threshold, unknown_rate=unknown_rate, worst=worst)
    output.show(_json(found), _text(found))
    return exits.FAILED if found.refused else exits.OK


def _json(found: Evaluation) -> dict[str, Any]:
    body: dict[str, Any] = plain(found)
    body["all"] = _share(found.all)
    body["undoubted"] = _share(found.undoubted)
    body["classes"] = {label: _share(share) for label, share in found.classes.items()}
    return body


def _share(share: Share) -> dict[str, Any]:
    return {**plain(share), "accuracy": share.value, "interval": list(share.interval)}


def _text(found: Evaluation) -> str:
    parts = ["\n".join(_summary(found))]
    if found.classes:
        parts.append(_classes(found))
    if found.confusions:
        rows = [(one.label, one.answer, one.images) for one in found.confusions]
        parts.append(_table(["label", "taken for", "images"], rows))
    if found.worst:
        mistakes = [(one.file, one.label, one.answer, one.probability) for one in found.worst]
        parts.append(table(["file", "label", "taken for", "probability"], mistakes))
    if found.refused:
        refused = [(one.file, one.label, one.reason) for one in found.refused]
        parts.append(_table(["refused", "label", "reason"], refused))
    return "\n\n".join(parts)


def _summary(found: Evaluation) -> list[str]:
    versions = ", ".join(map(str, found.versions)) or "none"
    several = " (a version went live meanwhile)" if len(found.versions) > 1 else ""
    lines = [f"version {versions}{several}: {_right(found.all)}"]
    if found.all.images:
        lines += [
            f"probabilities are {percent(found.calibration_error)} from the share that is right, on average",
            f"called unknown: {counted(found.unknown, found.all.images)}; provisional: {found.provisional}",
            f"doubtful (unknown, provisional or below {found.threshold:g}): "
            f"{counted(found.doubted, found.all.images)}; of the others {_right(found.undoubted)}",
        ]
    if found.strangers:
        named = _some([f"{label} ({images})" for label, images in found.strangers.items()])
        images = sum(found.strangers.values())
        lines.append(
            f"labels that the model does not know: {named}; of these {images} images {found.strangers_unknown} are "
            f"called unknown, {found.strangers_doubted} are doubtful"
        )
    if found.unmeasured:
        lines.append(f"labels without an image here: {_some(found.unmeasured)}")
    if found.skipped:
        lines.append(f"passed over: {told(Counter(found.skipped))}")
    return lines


def _right(share: Share) -> str:
    if not share.images:
        return "no image to measure"
    lowest, highest = share.interval
    return f"{counted(share.right, share.images)} right, {100 * lowest:.1f} to {percent(highest)} with 95 % confidence"


def _classes(found: Evaluation) -> str:
    """Return a table of the classes, those that do worst first."""
    ranked = sorted(found.classes.items(), key=lambda item: (item[1].value or 0.0, -item[1].images, item[0]))
    rows = [
        (label, share.images, share.right, percent(share.value), f"{100 * low:.0f} to {100 * high:.0f} %")
        for label, share in ranked
        for low, high in [share.interval]
    ]
    return _table(["label", "images", "right", "accuracy", "95 % interval"], rows)


def _table(headers: list[str], rows: list[Any]) -> str:
    more = f"\nand {len(rows) - _SHOWN} more; --json lists all" if len(rows) > _SHOWN else ""
    return table(headers, rows[:_SHOWN]) + more


def _some(names: Any) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
