"""Figures of an exemplar memory: where exemplars lie among their classes' features, and what they look like.

Needs matplotlib (`pip install matplotlib`). Shapes: n examples; d features; m exemplars; H, W, C of an image.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from accrete_experiments.protocols import figure_style as style

_ROW_INCHES = 0.62


@dataclass(frozen=True, kw_only=True)
class FeatureMap:
    """Examples of some classes and the exemplars that stand for them, on a plane.

    Raises:
        ValueError: when the lengths differ.
    """

    points: NDArray[Any]
    """[n, 2], as `project` answers."""
    classes: NDArray[Any]
    """[n] indices into the names."""
    exemplar: NDArray[np.bool_]
    """[n] whether it is an exemplar; an exemplar that was made need not be an example."""

    def __post_init__(self) -> None:
        if self.points.shape != (len(self.classes), 2) or self.exemplar.shape != self.classes.shape:
            raise ValueError("points must be [n, 2], classes and exemplar [n]")


def project(features: NDArray[Any], *, seed: int, perplexity: float = 30.0) -> NDArray[np.float32]:
    """t-SNE of feature directions [n, d], the nearest mean's view of them, to [n, 2].

    Project the examples and the exemplars of a panel together: two projections have nothing in common.

    Args:
        features: [n, d], normalised here.
        seed: of the projection, which starts from the principal components.
        perplexity: neighbours that a point looks at, about; fewer where n is small.

    Raises:
        ValueError: with fewer than four examples.

    Source: van der Maaten and Hinton, Visualizing Data using t-SNE (JMLR 2008).
    """
    from sklearn.manifold import TSNE

    if len(features) < 4:
        raise ValueError(f"{len(features)} examples: at least 4 are needed")
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    unit = (features / np.maximum(lengths, 1e-12)).astype(np.float32)
    near = min(perplexity, (len(features) - 1) / 3)
    found: NDArray[np.float32] = TSNE(perplexity=near, init="pca", random_state=seed).fit_transform(unit)
    return found


def feature_maps(
    maps: Mapping[str, FeatureMap], names: Sequence[str], path: Path, *, columns: int = 3, note: str = ""
) -> Path:
    """Draw one panel per way of choosing exemplars, with small faint points for examples and large outlined exemplars.

    As in Liu et al. (Mnemonics Training, CVPR 2020).

    Args:
        maps: by title.
        names: of the classes, by index. Up to seven have a colour each; beyond, markers tell those of one colour apart.
        path: of the picture to write.
        columns: panels side by side.
        note: a line above all of it.

    Raises:
        ValueError: without a map.
    """
    if not maps:
        raise ValueError("there is no map to draw")
    across = min(columns, len(maps))
    down = -(-len(maps) // across)
    figure = style.figure(3.2 * across, 3.3 * down + 0.3)
    panels = figure.subplots(down, across, squeeze=False)
    if note:
        figure.suptitle(note, fontsize=style.FONT_POINTS - 1, color=style.INK)
    for axes, (title, found) in zip(panels.flat, maps.items(), strict=False):
        _draw_map(axes, found)
        axes.set_title(title, fontsize=style.FONT_POINTS + 1, color=style.INK)
    for axes in panels.flat[len(maps) :]:
        axes.remove()
    shown = sorted({int(label) for found in maps.values() for label in found.classes})
    handles = [_sign(style.color(label), style.marker(label), 5, names[label]) for label in shown]
    handles += [_sign("#777777", "o", 3, "example"), _sign("#777777", "o", 6, "exemplar", edge="black")]
    widest = style.LETTER_INCHES * (6 + max(len(str(handle.get_label())) for handle in handles))
    lines = math.ceil(len(handles) / max(1, int(3.2 * across / widest)))
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=math.ceil(len(handles) / lines),
        frameon=False,
        fontsize=style.FONT_POINTS,
    )
    return style.save(figure, path)


def gallery(rows: Mapping[str, NDArray[Any]], path: Path, *, columns: Sequence[str] = (), note: str = "") -> Path:
    """Draw exemplars as pictures, one row per kind and one column per exemplar.

    Args:
        rows: by name, images [m, H, W, C] of 1 or 3 channels, uint8 or any number from 0 to 255; rows may differ in m
            and in size.
        path: of the picture to write.
        columns: what stands above each column, such as the class; equal neighbours are written once.
        note: a line below all of it.

    Raises:
        ValueError: without an image, or with images of another form.
    """
    across = max((len(images) for images in rows.values()), default=0)
    if not across:
        raise ValueError("there is no exemplar to show")
    for name, images in rows.items():
        if images.ndim != 4 or images.shape[3] not in (1, 3):
            raise ValueError(f"{name}: must be [m, H, W, 1 or 3], not {list(images.shape)}")
    beside, above = 0.1 + style.LETTER_INCHES * max(map(len, rows)), 0.25 if columns else 0.05
    below = 0.25 if note else 0.05
    width, height = beside + _ROW_INCHES * across + 0.05, above + _ROW_INCHES * len(rows) + below
    figure = style.figure(width, height, fitted=False)  # pictures of one size close together need exact margins
    figure.subplots_adjust(
        left=beside / width,
        right=1 - 0.05 / width,
        top=1 - above / height,
        bottom=below / height,
        wspace=0.06,
        hspace=0.06,
    )
    panels = figure.subplots(len(rows), across, squeeze=False)
    for line, (name, images) in zip(panels, rows.items(), strict=True):
        for axes in line:
            style.bare(axes)
        for axes in line[len(images) :]:
            axes.spines[:].set_visible(False)
        for axes, image in zip(line, images, strict=False):
            shown = np.clip(np.rint(image.astype(np.float32)), 0, 255).astype(np.uint8)
            axes.imshow(shown[..., 0] if shown.shape[2] == 1 else shown, cmap="gray", vmin=0, vmax=255)
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=style.FONT_POINTS, color=style.INK)
    if note:
        figure.text(0.05 / width, 0.06 / height, note, fontsize=style.FONT_POINTS - 1, color=style.INK)
    for index, (axes, title) in enumerate(zip(panels[0], columns, strict=False)):
        if index == 0 or columns[index - 1] != title:
            axes.set_title(title, fontsize=style.FONT_POINTS, color=style.INK, loc="left")
    return style.save(figure, path)


def _draw_map(axes: Axes, found: FeatureMap) -> None:
    style.bare(axes)
    axes.set_aspect("equal", adjustable="datalim")
    for label in np.unique(found.classes).tolist():
        own = found.classes == label
        plain, chosen = found.points[own & ~found.exemplar], found.points[own & found.exemplar]
        colour, shape = style.color(label), style.marker(label)
        axes.scatter(plain[:, 0], plain[:, 1], s=6, color=colour, marker=shape, alpha=0.35, linewidths=0)
        axes.scatter(
            chosen[:, 0], chosen[:, 1], s=26, color=colour, marker=shape, edgecolors="black", linewidths=0.7, zorder=3
        )


def _sign(colour: str, shape: str, size: float, label: str, *, edge: str = "none") -> Line2D:
    return Line2D([], [], linestyle="", marker=shape, markersize=size, color=colour, markeredgecolor=edge, label=label)
