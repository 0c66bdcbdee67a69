"""Figures of results: accuracy by the classes seen, and which classes are taken for which.

Needs matplotlib (`pip install matplotlib`). Shapes: C classes, in order of arrival; n test images.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from accrete_experiments.protocols import figure_style as style
from accrete_experiments.protocols import measures, report
from accrete_experiments.protocols.measures import HEAD, NME, Spread, spread
from accrete_experiments.protocols.published import Published
from accrete_experiments.protocols.results import Run

TITLES = {HEAD: "CNN (head)", NME: "NME (nearest mean)"}
_PANEL_INCHES = 3.6
_GREY = "#888888"
"""Of chance."""
JOINT = "joint"
"""The method that trains with everything: what the others are measured against."""
_NAMED, _NUMBERED = 12, 10
"""Classes up to which a matrix has room for their names, and for a number in each cell."""


def accuracy_curves(
    runs: Sequence[Run], path: Path, *, rules: Sequence[str] = (HEAD, NME), published: Sequence[Published] = ()
) -> Path:
    """Accuracy on all classes seen after each task: a line a method, a panel a rule, bands of one standard deviation.

    A dotted line is chance. Joint training, where it was run, is black and dashed. Published points are hollow.

    Args:
        runs: finished runs of one protocol; those that are not finished are left out.
        path: of the picture to write.
        rules: one panel each; a rule that no method was measured with is left out.
        published: what others reached; of a rule or a number of classes that is not drawn, it is left out.

    Raises:
        ValueError: without a finished run, or with runs of more than one protocol, which do not compare.
    """
    groups = report.comparisons(runs)
    if len(groups) != 1 or not groups[0].methods:
        raise ValueError(f"finished runs of one protocol are needed, not {len(groups)} protocols")
    methods = groups[0].methods
    curves = {rule: _curves(methods, rule) for rule in rules}
    curves = {rule: found for rule, found in curves.items() if found}
    if not curves:
        raise ValueError(f"nothing was measured by {', '.join(rules)}")
    beside = style.LETTER_INCHES * (8 + max(map(len, [*methods, *(point.name for point in published)])))
    named = len(methods) + len(published)
    height = max(4.0, 1.5 + style.LINE_INCHES * named)  # the names at the lines' ends stand below one another
    figure = style.figure(len(curves) * (_PANEL_INCHES + beside), height)
    panels = figure.subplots(1, len(curves), sharey=True, squeeze=False)[0]
    seen = [task.classes for task in next(iter(methods.values()))[0].tasks]
    numbers = {name: index for index, name in enumerate(methods)}
    points = {rule: _within(published, rule, seen) for rule in curves}
    for axes, (rule, found) in zip(panels, curves.items(), strict=True):
        for name, values in found.items():
            _draw_curve(axes, seen, values, numbers[name], joint=name == JOINT)
        axes.plot(seen, [100.0 / classes for classes in seen], ":", color=_GREY, linewidth=1.0)
        for point in points[rule]:
            axes.plot(point.classes, point.percent, "o", color=style.INK, markerfacecolor="none", markersize=6.0)
        _dress_curves(axes, seen, TITLES.get(rule, rule))
    panels[0].set_ylabel("Top-1 accuracy on the classes seen (%)", color=style.INK)
    band = " Bands: ± one standard deviation." if any(len(of_method) > 1 for of_method in methods.values()) else ""
    lines = " Dotted: chance." if JOINT in methods else f" Dotted: chance. No {JOINT} line: {JOINT} was not run."
    others = " Hollow: published." if any(points.values()) else ""
    style.footnote(figure, report.caption(groups[0].protocol, _seeds(methods)) + band + lines + others)
    figure.draw_without_rendering()  # places the axes, so that lines of text have a height in percent
    for axes, (rule, found) in zip(panels, curves.items(), strict=True):
        ends = [
            _End(name, seen[-1], values[-1].mean, _color(numbers[name], joint=name == JOINT))
            for name, values in found.items()
        ]
        ends += [_End(point.name, point.classes, point.percent, style.INK) for point in points[rule]]
        _label_ends(axes, [*ends, _End("chance", seen[-1], 100.0 / seen[-1], _GREY)])
    return style.save(figure, path)


def confusion(true: NDArray[Any], predicted: NDArray[Any], classes: int) -> NDArray[np.int64]:
    """Return the counts [C, C] of the pairs of true and predicted class, each [n] and 0 to `classes` - 1."""
    pairs = true.astype(np.int64) * classes + predicted
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def confusion_matrices(
    matrices: Mapping[str, NDArray[Any]],
    path: Path,
    *,
    class_counts: Sequence[int],
    names: Sequence[str] = (),
    columns: int = 3,
) -> Path:
    """Which class is taken for which, a panel a method, classes in order of arrival, lines between tasks.

    As in Rebuffi et al. (iCaRL, CVPR 2017). Shades follow the square root, so that rare confusions show. Few classes
    have their names at the edges, and fewer a percentage in each cell.

    Args:
        matrices: by title, counts [C, C]: true class down, predicted class across.
        path: of the picture to write.
        class_counts: classes that arrived in each task.
        names: of the classes, in order of arrival.
        columns: panels side by side.

    Raises:
        ValueError: without a matrix, or when a matrix's size is not the sum of the counts.
    """
    size = sum(class_counts)
    if not matrices or any(matrix.shape != (size, size) for matrix in matrices.values()):
        raise ValueError(f"matrices must be [{size}, {size}], as many classes as arrived")
    across = min(columns, len(matrices))
    down = -(-len(matrices) // across)
    named = names if len(names) == size <= _NAMED else ()
    margin = style.LETTER_INCHES * max(map(len, named), default=0)
    panel = max(3.0, 0.42 * size) if size <= _NUMBERED else 3.0
    figure = style.figure(panel * across + margin + 0.9, panel * down + margin + 0.4)
    panels = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
    norm = PowerNorm(0.5, vmin=0.0, vmax=100.0)
    shades = LinearSegmentedColormap.from_list("shares", ["#FFFFFF", "#9ECAE1", "#2171B5", "#08306B"])
    for place, (axes, (title, matrix)) in enumerate(zip(panels.flat, matrices.items(), strict=False)):
        totals = np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        shares = 100.0 * matrix / totals
        axes.imshow(shares, cmap=shades, norm=norm, interpolation="nearest")
        if size <= _NUMBERED:
            _number(axes, shares)
        axes.set_title(title, fontsize=style.FONT_POINTS + 1, color=style.INK)
        lowest = place + across >= len(matrices)
        _dress_matrix(axes, np.cumsum(class_counts)[:-1] - 0.5, named, lowest=lowest)
    for axes in panels.flat[len(matrices) :]:
        axes.remove()
    figure.supxlabel("Predicted class, by order of arrival", fontsize=style.FONT_POINTS, color=style.INK)
    figure.supylabel("True class, by order of arrival", fontsize=style.FONT_POINTS, color=style.INK)
    bar = figure.colorbar(ScalarMappable(norm, shades), ax=figure.axes, shrink=0.8, ticks=[0, 1, 5, 10, 25, 50, 100])
    bar.set_label("Share of the true class's test images (%)", fontsize=style.FONT_POINTS, color=style.INK)
    bar.ax.tick_params(labelsize=style.FONT_POINTS - 1, colors=style.INK)
    return style.save(figure, path)


def _seeds(methods: Mapping[str, Sequence[Run]]) -> int | None:
    """Return how many seeds each method was run with, None when not all alike."""
    counts = {len(runs) for runs in methods.values()}
    return counts.pop() if len(counts) == 1 else None


def _curves(methods: Mapping[str, Sequence[Run]], rule: str) -> dict[str, list[Spread]]:
    """Return percentages by method, without the methods that were not measured after every task."""
    found: dict[str, list[Spread]] = {}
    for name, runs in methods.items():
        tasks = zip(*(measures.curve(run, rule) for run in runs), strict=True)
        values = [spread(None if value is None else 100.0 * value for value in task) for task in tasks]
        measured = [value for value in values if value is not None]
        if len(measured) == len(values):
            found[name] = measured
    return found


def _color(index: int, *, joint: bool) -> str:
    return "#000000" if joint else style.color(index)


def _draw_curve(axes: Axes, seen: Sequence[int], values: Sequence[Spread], index: int, *, joint: bool) -> None:
    means = np.array([value.mean for value in values])
    colour = _color(index, joint=joint)
    if values[0].deviation is not None:
        half = np.array([value.deviation or 0.0 for value in values])
        axes.fill_between(seen, means - half, means + half, color=colour, alpha=0.18, linewidth=0)
    form = "--" if joint else style.dashes(index)
    axes.plot(seen, means, form, color=colour, marker=style.marker(index), markersize=3.5, linewidth=1.5)


def _dress_curves(axes: Axes, seen: Sequence[int], title: str) -> None:
    style.plain(axes)
    axes.set_title(title, fontsize=style.FONT_POINTS + 1, color=style.INK, loc="left")
    axes.set_xlabel("Classes seen", fontsize=style.FONT_POINTS, color=style.INK)
    every = -(-len(seen) // 10)
    axes.set_xticks(seen[(len(seen) - 1) % every :: every])  # the last number of classes among them
    axes.tick_params(labelleft=True)


def _number(axes: Axes, shares: NDArray[Any]) -> None:
    """Write each percentage into its cell, zeros left out."""
    for (row, column), share in np.ndenumerate(shares):
        if share > 0:
            text = "<1" if share < 1 else f"{share:.0f}"
            colour = "white" if share > 25 else style.INK  # by the shade behind it
            axes.text(column, row, text, ha="center", va="center", fontsize=style.FONT_POINTS - 2, color=colour)


def _dress_matrix(axes: Axes, bounds: NDArray[Any], names: Sequence[str], *, lowest: bool) -> None:
    for lines in (axes.axhline, axes.axvline):
        for bound in bounds:
            lines(bound, color="#BBBBBB", linewidth=0.4)
    axes.tick_params(colors=style.INK, labelsize=style.FONT_POINTS - 1, labelbottom=lowest)
    if names:
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(names)), names)
    else:
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(integer=True))  # classes are whole
    axes.spines[:].set_color("#999999")


def _within(published: Sequence[Published], rule: str, seen: Sequence[int]) -> list[Published]:
    """Return the points that a panel has room for."""
    return [point for point in published if point.rule == rule and seen[0] <= point.classes <= seen[-1]]


class _End(NamedTuple):
    """What is written beside a panel: a name and a percentage, of the point that a thin line leads to."""

    name: str
    classes: int
    value: float
    colour: str


def _label_ends(axes: Axes, ends: Sequence[_End]) -> None:
    """Each name and accuracy beside its point, in its colour, moved apart where they would touch."""
    places = style.apart([end.value for end in ends], style.line_height(axes))
    for (name, classes, value, colour), place in zip(ends, places, strict=True):
        axes.annotate(
            f"{name}  {value:.1f}",
            xy=(classes, value),
            xytext=(1.05, place),
            textcoords=axes.get_yaxis_transform(),
            fontsize=style.FONT_POINTS,
            color=colour,
            va="center",
            annotation_clip=False,
            # From the left end of the words, so that no line crosses another's words.
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.6,
                "relpos": (0.0, 0.5),
                "shrinkA": 0.0,
                "shrinkB": 3.0,
            },
        )
