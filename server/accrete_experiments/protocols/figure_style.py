"""How the figures look, and how they are written: no window, no state shared between figures.

Needs matplotlib (`pip install matplotlib`).
"""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

matplotlib.rcParams["text.parse_math"] = False  # a class's name is no formula, dollar signs or not

#: Okabe and Ito's colours, which people who are colour-blind can tell apart; their yellow is left out, being unreadable
#: as a line or a word on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", "--", ":", "-.")
INK, FAINT = "#333333", "#DDDDDD"
FONT_POINTS = 9.0
LETTER_INCHES = 0.075
"""An average letter's width in that size, generously."""
LINE_INCHES = 1.25 * FONT_POINTS / 72
"""Of one line of text, with the space to the next."""


def color(index: int) -> str:
    """Of the index-th thing; they come round again after seven."""
    return PALETTE[index % len(PALETTE)]


def marker(index: int) -> str:
    """Another for each colour, and for each round of colours, so that a thing can be told without its colour."""
    return MARKERS[(index + index // len(PALETTE)) % len(MARKERS)]


def dashes(index: int) -> str:
    """Return a marker that is the same through a round of colours and another in the next."""
    return DASHES[index // len(PALETTE) % len(DASHES)]


def figure(width: float, height: float, *, fitted: bool = True) -> Figure:
    """Return an empty one, `width` by `height` inches; `fitted`: it makes room for what stands outside its axes."""
    return Figure(figsize=(width, height), layout="constrained" if fitted else None, facecolor="white")


def plain(axes: Axes) -> None:
    """Only the axes that carry a scale, and faint lines across."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
    axes.tick_params(colors=INK, labelsize=FONT_POINTS)
    axes.grid(axis="y", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)


def bare(axes: Axes) -> None:
    """No ticks, and no frame but a faint one around what is drawn later."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_color(FAINT)


def footnote(figure: Figure, text: str) -> None:
    """Small lines below everything, as wide as the figure, broken between the parts that semicolons separate."""
    room = int(figure.get_figwidth() / LETTER_INCHES / 0.75)
    lines = [""]
    for part in text.replace(". ", ".; ").split("; "):
        joint = " " if lines[-1].endswith(".") else "; "
        longer = f"{lines[-1]}{joint}{part}" if lines[-1] else part
        if len(longer) <= room:
            lines[-1] = longer
        else:  # a part that is wider than the figure alone is broken between words
            lines[-1] += "" if lines[-1].endswith(".") or not lines[-1] else ";"
            lines += textwrap.wrap(part, room)
    figure.supxlabel("\n".join(filter(None, lines)), x=0.01, ha="left", fontsize=7, color=INK)


def apart(wanted: Sequence[float], gap: float) -> list[float]:
    """Return positions at least `gap` from one another, in the order of the wanted ones and near them."""
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    blocks: list[list[int]] = []
    centres: list[float] = []
    for index in order:
        blocks.append([index])
        centres.append(wanted[index])
        # Neighbours that would touch become one block, centred on the mean of what they wanted.
        while len(blocks) > 1 and centres[-1] - centres[-2] < gap * (len(blocks[-1]) + len(blocks[-2])) / 2:
            blocks[-2:] = [blocks[-2] + blocks[-1]]
            centres[-2:] = [sum(wanted[member] for member in blocks[-1]) / len(blocks[-1])]
    found = [0.0] * len(wanted)
    for block, centre in zip(blocks, centres, strict=True):
        for rank, member in enumerate(block):
            found[member] = centre + gap * (rank - (len(block) - 1) / 2)
    return found


def line_height(axes: Axes) -> float:
    """Of a line of text, in the units of the vertical axis."""
    low, high = axes.get_ylim()
    inches = axes.get_window_extent().height / axes.figure.dpi
    return (high - low) * LINE_INCHES / inches


def save(figure: Figure, path: Path) -> Path:
    """Write it as the suffix says (.png, .svg, .pdf), the same bytes for the same figure, and return the path.

    Beside a .png, for the screen, stand a .pdf and a .svg, for paper.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    suffixes = (".png", ".pdf", ".svg") if path.suffix.lower() == ".png" else (path.suffix,)
    for suffix in suffixes:
        metadata = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(suffix.lower())
        # Type 42 fonts, since journals refuse matplotlib's default of type 3.
        with matplotlib.rc_context({"svg.hashsalt": path.name, "pdf.fonttype": 42}):
            figure.savefig(path.with_suffix(suffix), dpi=200, metadata=metadata)
    return path
