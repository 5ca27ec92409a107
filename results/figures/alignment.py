"""Preference-semantic alignment: histories and the items that follow them in one plane (METHODS D.3; Figure 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from results.figures.rendering import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Picture

# Tol's muted colours, for up to ten items.
COLORS = (
    "#332288", "#88CCEE", "#117733", "#DDCC77", "#CC6677", "#AA4499", "#44AA99", "#999933", "#882255", "#777777"
)  # fmt: skip


def alignment_figure(
    frame: pl.DataFrame, dataset: str, untrained: str | None = None, notes: tuple[str, ...] = ()
) -> Figure:
    """A panel per model of a frame as `etegrec.alignment.alignment_frame` makes it.

    `untrained` is the panel of a model whose adapter no loss trained.
    """
    numbers = gaps(frame)
    preferences = frame.filter(pl.col("kind") == "preference")
    first = preferences.filter(pl.col("panel") == preferences["panel"][0])
    sources = dict(first.group_by("source").len().iter_rows())
    taken = " and ".join(
        f"{sources[source]} {name}"
        for source, name in (("validation", "validation cases"), ("training", "training prefixes"))
        if source in sources
    )
    told = [
        f"{first['item'].n_unique()} items of {dataset} and {len(first)} histories that lead to them ({taken}; the "
        "test items were not read), in the t-SNE of preferences (circles) and of the items' semantics (stars); numbers "
        "and colours name the items.",
        "Mean cosine of a preference to its own item, minus that to the other items: "
        + "; ".join(f"{panel} {own - other:+.3f} ({own:.3f} - {other:.3f})" for panel, own, other in numbers.rows())
        + ".",
    ]
    if untrained is not None:
        told.append(f"In {untrained} no loss trains the adapter that makes preferences, so it is as it was drawn.")
    return Figure("alignment", " ".join(told), frame, draw, notes)


def gaps(frame: pl.DataFrame) -> pl.DataFrame:
    """Per panel: mean cosine to the own item, and to the other items."""
    means = pl.col("own_cosine").mean(), pl.col("other_cosine").mean()
    return frame.group_by("panel", maintain_order=True).agg(*means)


def draw(frame: pl.DataFrame) -> Picture:
    """A panel per model: circles with their item's number for preferences, stars for items."""
    from results.figures.drawing.looks import COLUMN, picture

    panels = frame["panel"].unique(maintain_order=True).to_list()
    drawn = picture(COLUMN * len(panels) + 0.2 * (len(panels) - 1), COLUMN)
    for axes, panel in zip(drawn.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        shown = frame.filter(pl.col("panel") == panel)
        number_of = {item: number for number, item in enumerate(shown["item"].unique(maintain_order=True))}
        circles = shown.filter(pl.col("kind") == "preference").select("item", "x", "y")
        for place, (item, x, y) in enumerate(circles.iter_rows()):
            color, layer = COLORS[number_of[item] % len(COLORS)], 3 + place / len(shown)
            axes.plot(
                x, y, "o", color=color, markersize=7.5, markeredgecolor="white", markeredgewidth=0.4, zorder=layer
            )
            number = axes.annotate(
                str(number_of[item]),
                (x, y),
                ha="center",
                va="center_baseline",
                fontsize=4.5,
                color=_readable_on(color),
                zorder=layer,
            )
            number.set_in_layout(False)  # it lies in its circle, so that to measure it would move nothing
        stars = shown.filter(pl.col("kind") == "item").select("item", "x", "y")
        for item, x, y in stars.iter_rows():
            color = COLORS[number_of[item] % len(COLORS)]
            axes.plot(x, y, "*", color=color, markersize=14, markeredgecolor="black", markeredgewidth=0.7, zorder=5)
        axes.set_title(panel)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.grid(visible=False)
        axes.margins(0.08)
        axes.spines[["top", "right"]].set_visible(True)
        _name_stars(axes, [number_of[item] for item in stars["item"]], stars, circles)
    return drawn


def _together(places: np.ndarray) -> list[list[int]]:
    """The points in groups that lie so close together that they need one name."""
    near = 0.03 * float(np.ptp(places, axis=0).max())
    groups: list[list[int]] = []
    for index, place in enumerate(places):
        home = next((group for group in groups if np.linalg.norm(places[group[0]] - place) < near), None)
        if home is None:
            groups.append([index])
        else:
            home.append(index)
    return groups


def _name_stars(axes: Axes, numbers: list[int], stars: pl.DataFrame, circles: pl.DataFrame) -> None:
    """The stars' numbers beside them, where they cover neither stars nor circles; one name for those that coincide."""
    from matplotlib.transforms import Bbox

    from results.figures.drawing.looks import label_points, settle_layout

    settle_layout(axes)
    places = stars.select("x", "y").to_numpy()
    groups = _together(places)
    point = axes.figure.dpi / 72
    sizes = [(circles.select("x", "y").to_numpy(), 8 * point), (places, 12 * point)]
    boxes = [
        Bbox.from_bounds(x - size / 2, y - size / 2, size, size)
        for points, size in sizes
        for x, y in axes.transData.transform(points)
    ]
    names = [", ".join(str(numbers[member]) for member in members) for members in groups]
    label_points(axes, places[[members[0] for members in groups]], names, ["black"] * len(groups), boxes)


def _readable_on(color: str) -> str:
    """Black or white, whichever stands out."""
    from matplotlib.colors import to_rgb

    red, green, blue = to_rgb(color)
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.55 else "white"
