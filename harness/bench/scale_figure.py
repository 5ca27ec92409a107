"""The measured growth as one picture: a row of panels for each axis, time on the left and memory on the right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from harness.bench.growth import growth
from harness.bench.scale import MEASURES, Point
from results.figures.rendering import Figure

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure as Picture

ROW_HEIGHT = 1.9  # inches
COSTS = {"seconds": "time (s)", "memory_mb": "memory (MiB)"}
SCHEMA = {
    "measure": pl.String,
    "title": pl.String,
    "axis": pl.String,
    "size": pl.Int64,
    "seconds": pl.Float64,
    "seconds_min": pl.Float64,
    "seconds_max": pl.Float64,
    "memory_mb": pl.Float64,
    "peak_mb": pl.Float64,
}


def scale_frame(points: Sequence[Point]) -> pl.DataFrame:
    """A row per point, with the title and the axis of its measure."""
    rows = [
        (point.measure, MEASURES[point.measure].title, MEASURES[point.measure].axis, *point[1:]) for point in points
    ]
    return pl.DataFrame(rows, SCHEMA, orient="row")


def scale_figure(points: Sequence[Point]) -> Figure:
    """Time and memory against size, both logarithmic, for each axis that was measured."""
    caption = (
        "Cost against size: the median time of a unit of work, with the least and the most, and the memory that its "
        "process grew by. Behind each name: the fitted exponent of time and its standard error."
    )
    return Figure("scale", caption, scale_frame(points), draw)


def draw(frame: pl.DataFrame) -> Picture:
    """The picture of a `scale_frame`."""
    from results.figures.drawing.looks import FULL, LOOKS, picture

    axes_names = frame["axis"].unique(maintain_order=True).to_list()
    drawn = picture(FULL, ROW_HEIGHT * len(axes_names))
    grid = drawn.subplots(len(axes_names), len(COSTS), squeeze=False)
    for panels, axis in zip(grid, axes_names, strict=True):
        parts = frame.filter(pl.col("axis") == axis).partition_by("measure", maintain_order=True)
        for look, part in zip(LOOKS, parts, strict=False):
            line = {"color": look.color, "marker": look.marker, "linestyle": look.line}
            for panel, cost in zip(panels, COSTS, strict=True):
                panel.plot(part["size"], part[cost].clip(lower_bound=1e-6), label=_label(part), clip_on=False, **line)
            panels[0].fill_between(part["size"], part["seconds_min"], part["seconds_max"], color=look.color, alpha=0.2)
        for panel, label in zip(panels, COSTS.values(), strict=True):
            panel.set(xscale="log", yscale="log", xlabel=axis, ylabel=label)
            for side in (panel.xaxis, panel.yaxis):
                _span_decades(side)
        panels[-1].legend(loc="center left", bbox_to_anchor=(1.02, 0.5))
    return drawn


def _span_decades(side: Axis) -> None:
    """Whole powers of ten as limits and labels, so that a flat curve looks flat."""
    from matplotlib.ticker import NullFormatter

    low, high = side.get_data_interval()
    side.set_view_interval(10.0 ** np.floor(np.log10(low)), 10.0 ** np.ceil(np.log10(high)), ignore=True)
    side.set_minor_formatter(NullFormatter())


def _label(part: pl.DataFrame) -> str:
    """The measure's title, and how its time grows where enough sizes tell."""
    title, found = part["title"][0], growth(part["size"].to_list(), part["seconds"].to_list())
    return title if found is None else f"{title}\n{found.exponent:.2f} ± {found.error:.2f}"
