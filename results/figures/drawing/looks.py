"""How all figures look: sizes, fonts, colours that the colour-blind tell apart, and marks that survive grey print.

Imported where a figure is drawn, as it needs matplotlib.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure as Picture
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

COLUMN, FULL = 3.4, 7.0  # inches: the width of a paper's column, and of its page
SMALL = 7.0  # points: ticks, legends and labels; the rest has 8

BLACK, GREY, LIGHT = "#000000", "#6E6E6E", "#D0D0D0"
# Okabe and Ito's palette, without its yellow, which white paper swallows.
BLUE, VERMILLION, GREEN, ORANGE, SKY, PURPLE = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#CC79A7"

SETTINGS: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that every machine draws the same
    "font.size": 8.0,
    "axes.labelsize": 8.0,
    "axes.titlesize": 8.0,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "legend.fontsize": SMALL,
    "legend.frameon": False,
    "legend.handlelength": 1.8,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "lines.linewidth": 1.2,
    "lines.markersize": 4.0,
    "hatch.linewidth": 0.6,
    "figure.constrained_layout.use": True,
    "savefig.dpi": 300,
    "pdf.fonttype": 42,  # TrueType, embedded
    "ps.fonttype": 42,
    "svg.fonttype": "path",
}


class Look(NamedTuple):
    """How a method or a series is told apart: by colour, and without it by marker, line and hatch."""

    color: str
    marker: str
    line: str | tuple[int, tuple[int, ...]]
    hatch: str


LOOKS = (
    Look(VERMILLION, "o", "-", ""),
    Look(BLUE, "s", "--", "////"),
    Look(GREEN, "^", "-.", "...."),
    Look(ORANGE, "D", ":", "xxxx"),
    Look(PURPLE, "v", (0, (5, 1, 1, 1, 1, 1)), "----"),
    Look(SKY, "p", (0, (3, 1)), "\\\\\\\\"),
    Look(GREY, "h", (0, (1, 2)), "++++"),
    Look(BLACK, "*", (0, (8, 2)), "||||"),
)


def looks_of(places: Mapping[str, int | None]) -> dict[str, Look]:
    """A look per method, by registry name; its place in the tables chooses it, or the next one that is free."""
    looks: dict[str, Look] = {}
    for method, place in sorted(places.items(), key=lambda item: item[1] or 0, reverse=True):
        start = (place or 0) // 10
        in_turn = [LOOKS[(start + step) % len(LOOKS)] for step in range(len(LOOKS))]
        looks[method] = next((look for look in in_turn if look not in looks.values()), in_turn[0])
    return looks


def dark(color: str) -> tuple[float, ...]:
    """The colour as a text has it: dark enough to be read on white."""
    return tuple(0.7 * part for part in to_rgb(color))


def picture(width: float, height: float) -> Picture:
    """An empty figure of so many inches."""
    drawn = Picture(figsize=(width, height))
    FigureCanvasAgg(drawn)  # measures texts
    return drawn


# A point of a method's look: the white edge keeps neighbours apart.
POINT: dict[str, Any] = {"markersize": 6.0, "markeredgecolor": "white", "markeredgewidth": 0.6, "zorder": 3}

# Where a label may stand beside its point: in points from it, and how it is aligned; the first that fits is taken.
PLACES = (
    (6, 0, "left", "center"),
    (-6, 0, "right", "center"),
    (0, 6, "center", "bottom"),
    (0, -6, "center", "top"),
    (5, 5, "left", "bottom"),
    (5, -5, "left", "top"),
    (-5, 5, "right", "bottom"),
    (-5, -5, "right", "top"),
    *((dx, dy, "right" if dx < 0 else "left", "center") for dy in (14, -14, 24, -24) for dx in (-10, 10, -22, 22)),
    *((0, dy, "center", "bottom" if dy > 0 else "top") for dy in (20, -20, 32, -32)),
    *((dx, dy, "right" if dx < 0 else "left", "center") for dy in (34, 46, 60, 76) for dx in (-8, 8, -30, 30)),
)


def label_points(
    axes: Axes, points: np.ndarray, labels: Sequence[str], colors: Sequence[str], obstacles: Sequence[Bbox] = ()
) -> None:
    """Writes each label beside its point, (n, 2) in data units, where it least covers points, labels and `obstacles`.

    The axes' limits must be final, and their layout settled. Labels are placed one after another, those with the
    nearest neighbours first, in their points' colours; one that stands apart has a line to its point. Obstacles are
    boxes in pixels.
    """
    figure = axes.figure
    assert isinstance(figure.canvas, FigureCanvasAgg)
    renderer = figure.canvas.get_renderer()
    scale = figure.dpi / 72.0
    pixels = axes.transData.transform(points)
    corners = pixels - 3.0 * scale
    taken_T4 = np.vstack([np.hstack([corners, corners + 6.0 * scale]), *(box.extents for box in obstacles)])
    apart = np.linalg.norm(pixels[:, None] - pixels[None], axis=-1) + np.diag(np.full(len(pixels), np.inf))
    for index in np.argsort(apart.min(axis=1), kind="stable"):
        text = _label(axes, labels[index], points[index], (0, 0, "left", "bottom"))
        size_of_text = np.asarray(text.get_window_extent(renderer).size)
        text.remove()
        boxes_C4 = _boxes(pixels[index], size_of_text, scale)
        costs_C = (
            _outside(boxes_C4, np.array(axes.bbox.extents))
            + 3.0 * _overlaps(boxes_C4, taken_T4).sum(axis=1)
            + _ambiguity(boxes_C4, pixels[index], np.delete(pixels, index, axis=0), taken_T4)
        )
        best = int(np.argmin(np.round(costs_C, 3)))
        _label(axes, labels[index], points[index], PLACES[best], colors[index])
        taken_T4 = np.vstack([taken_T4, boxes_C4[best]])


def settle_layout(axes: Axes) -> None:
    """Puts the axes of the figure where they will stand, so that pixels are known; less work than drawing it."""
    figure = axes.figure
    assert isinstance(figure, Picture)
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)


def _label(
    axes: Axes, label: str, point: np.ndarray, place: tuple[int, int, str, str], color: str | None = None
) -> Annotation:
    """The label at a place; if a colour is given, in it, and with a line to its point where it stands apart."""
    dx, dy, horizontal, vertical = place
    line = {"arrowstyle": "-", "color": color, "linewidth": 0.6, "shrinkA": 1, "shrinkB": 2}
    return axes.annotate(
        label,
        (float(point[0]), float(point[1])),
        (dx, dy),
        textcoords="offset points",
        ha=horizontal,
        va=vertical,
        fontsize=SMALL,
        zorder=7,
        color=None if color is None else dark(color),
        arrowprops=line if color is not None and max(abs(dx), abs(dy)) > 8 else None,
    )


# Below, a box is a row of least x, least y, greatest x and greatest y, in pixels; C candidates, T taken boxes.


def _boxes(point: np.ndarray, size: np.ndarray, scale: float) -> np.ndarray:
    """(C, 4) the box of a text of so many pixels at each of `PLACES` beside a point; `scale`: pixels of a point."""
    before = {"left": 0.0, "bottom": 0.0, "center": 0.5, "right": 1.0, "top": 1.0}
    offsets_C2 = np.array([(dx, dy) for dx, dy, _, _ in PLACES])
    shares_C2 = np.array([(before[horizontal], before[vertical]) for _, _, horizontal, vertical in PLACES])
    corners_C2 = point + scale * offsets_C2 - size * shares_C2
    return np.hstack([corners_C2, corners_C2 + size])


def _areas(boxes_C4: np.ndarray) -> np.ndarray:
    """(C,) square pixels."""
    areas_C: np.ndarray = (boxes_C4[:, 2:] - boxes_C4[:, :2]).prod(axis=1)
    return areas_C


def _overlaps(boxes_C4: np.ndarray, others_T4: np.ndarray) -> np.ndarray:
    """(C, T) the areas that the boxes share with others, in square pixels."""
    low_CT2 = np.maximum(boxes_C4[:, None, :2], others_T4[:, :2])
    high_CT2 = np.minimum(boxes_C4[:, None, 2:], others_T4[:, 2:])
    areas_CT: np.ndarray = np.maximum(high_CT2 - low_CT2, 0.0).prod(axis=-1)
    return areas_CT


def _outside(boxes_C4: np.ndarray, frame_4: np.ndarray) -> np.ndarray:
    """(C,) four times the boxes' areas outside the frame, in square pixels: worse than to cover something."""
    return 4.0 * (_areas(boxes_C4) - _overlaps(boxes_C4, frame_4[None])[:, 0])


def _ambiguity(boxes_C4: np.ndarray, point: np.ndarray, others: np.ndarray, taken_T4: np.ndarray) -> np.ndarray:
    """(C,) what a label costs that stands nearer to another point than to its own, or whose line runs over something.

    `others` are the other points, (n, 2) in pixels.
    """
    low_C2, high_C2 = boxes_C4[:, :2], boxes_C4[:, 2:]
    near_C2 = np.clip(point, low_C2, high_C2)
    own_C = np.linalg.norm(near_C2 - point, axis=1)
    gaps_Cn2 = np.clip(others, low_C2[:, None], high_C2[:, None]) - others
    rival_C = np.linalg.norm(gaps_Cn2, axis=-1).min(axis=1, initial=np.inf)
    lines_C1S2 = point + (near_C2 - point)[:, None, None] * np.linspace(0.0, 1.0, 20)[:, None]
    is_inside_CT = ((taken_T4[:, None, :2] < lines_C1S2) & (lines_C1S2 < taken_T4[:, None, 2:])).all(-1).any(-1)
    crossed_C = is_inside_CT.sum(axis=1) - 1
    return np.where(rival_C < own_C, 0.5, 0.0) * _areas(boxes_C4) + 0.1 * _areas(boxes_C4) * np.maximum(0, crossed_C)
