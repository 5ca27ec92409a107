"""Places of methods over columns of any kind, as lines that cross where the order changes."""

from __future__ import annotations

from collections import Counter

import numpy as np
import polars as pl
from matplotlib.figure import Figure as Picture

from results.figures.drawing.looks import FULL, GREY, HOLLOW, POINT, SMALL, dark, looks_of, picture


def places_picture(frame: pl.DataFrame, column: str, rotation: float = 30) -> Picture:
    """A line per method over the values of a column, the best on top, and below them tau.

    The frame has that column, method, label, rank, tau, and place, the method's in the tables. Marks are hollow where
    methods are missing, and the heading tells how many there are.
    """
    columns = frame[column].unique(maintain_order=True).to_list()
    labels = frame["label"].unique(maintain_order=True).to_list()
    looks = looks_of(dict(frame.select("method", "place").unique(maintain_order=True).iter_rows()))
    drawn = picture(FULL, 1.0 + 0.3 * len(labels))
    axes = drawn.subplots()
    ends: Counter[float] = Counter()
    counts = dict(frame.group_by(column).len().iter_rows())
    whole = [counts[name] == len(labels) for name in columns]
    for label in labels:
        own = frame.filter(pl.col("label") == label)
        look = looks[own["method"][0]]
        ranks = dict(own.select(column, "rank").iter_rows())
        places = [ranks.get(name, np.nan) for name in columns]
        axes.plot(range(len(columns)), places, color=look.color, linestyle=look.line)
        for is_whole, style in ((True, POINT), (False, HOLLOW | {"markeredgecolor": look.color})):
            marked = [place if one == is_whole else np.nan for place, one in zip(places, whole, strict=True)]
            axes.plot(range(len(columns)), marked, look.marker, color=look.color, **style)
        end = places[-1] if not np.isnan(places[-1]) else places[0]
        axes.annotate(
            label,
            (len(columns) - 1, end + ends[end]),  # n methods that tie leave the n - 1 places below them free
            (8, 0),
            textcoords="offset points",
            va="center",
            color=dark(look.color),
            annotation_clip=False,
        )
        ends[end] += 1
    for place, name in enumerate(columns):
        tau = frame.filter(pl.col(column) == name)["tau"][0]
        shown = "" if np.isnan(tau) else f"{tau:.2f}"
        axes.annotate(shown, (place, len(labels) + 0.75), ha="center", va="center", color=GREY, fontsize=SMALL)
    told = [
        name if one else f"{name} ({counts[name]} of {len(labels)})" for name, one in zip(columns, whole, strict=True)
    ]
    axes.set_xticks(range(len(columns)), told, rotation=rotation, ha="right" if rotation else "center")
    axes.set_yticks([*range(1, len(labels) + 1), len(labels) + 0.75], [*range(1, len(labels) + 1), "tau"])
    axes.set_ylim(len(labels) + 1.1, 0.5)
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_ylabel("Rank")
    axes.grid(axis="x", visible=False)
    return drawn
