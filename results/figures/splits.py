"""The order of methods under the splits of one data set, as a picture."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import polars as pl

from results.figures.registry import FigureMaker
from results.figures.rendering import Figure
from results.statistics.inference import Interval
from results.statistics.splits import SplitOrders, split_orders

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Picture

SCHEMA = {
    "split": pl.String,
    "method": pl.String,
    "label": pl.String,
    "value": pl.Float64,
    "rank": pl.Int64,  # 1: the best of the methods that ran under every split; equal values share the better rank
    "tau": pl.Float64,  # Kendall's, of the split's order with the first split's
    "low": pl.Float64,  # of its 95 % interval
    "high": pl.Float64,
    "place": pl.Int64,  # in the tables
}


def splits_figure(found: SplitOrders) -> Figure:
    """The methods' ranks over the splits."""
    first = found.splits[0].name
    told = [f"{split.name} {_told(tau)}" for split, tau in zip(found.splits[1:], found.tau_PP[0][1:], strict=True)]
    return Figure(
        "splits",
        f"Rank of each method by {found.metric}@{found.k} on {found.dataset} under each split, and below them "
        f"Kendall's tau of the order with that under {first}: {', '.join(told)}; in brackets 95 % bootstrap intervals "
        "over the users and seeds of each split.",
        splits_frame(found),
        draw,
        tuple(f"{split.name}: {split.rows[0].population}" for split in found.splits),
    )


def _told(tau: Interval) -> str:
    """0.33 (-0.33 to 1.00)."""
    if math.isnan(tau.mean):
        return "unknown, since all methods tie under one of the two"
    return f"{tau.mean:.2f} ({tau.low:.2f} to {tau.high:.2f})"


def splits_frame(found: SplitOrders) -> pl.DataFrame:
    """One row per split and method that ran under all (`SCHEMA`)."""
    rows = []
    for column, split in enumerate(found.splits):
        records = {row.label: row.record for row in split.rows}
        for line, label in enumerate(found.shared):
            what = (split.name, records[label].method, label, float(found.values_MP[line, column]))
            rank = int(found.places_MP[line, column])
            rows.append((*what, rank, *found.tau_PP[0][column], records[label].place))
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def draw(frame: pl.DataFrame) -> Picture:
    """A line per method over the splits, the best on top."""
    from results.figures.drawing.places import places_picture

    return places_picture(frame, "split", rotation=0)


MAKER = FigureMaker(
    "splits",
    "runs of two methods under two splits of the data set",
    lambda asked: [splits_figure(split_orders(asked.runs, asked.dataset, asked.filters))],
)
