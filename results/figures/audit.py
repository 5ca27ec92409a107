"""The audit as a picture: which place each method has under each convention."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from results.errors import ResultsError
from results.figures.registry import FigureMaker
from results.figures.rendering import Figure
from results.statistics.audit import Audit, audit
from results.store.selection import Filters, dataset_label, select_runs

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Picture

SCHEMA = {
    "convention": pl.String,
    "method": pl.String,
    "label": pl.String,
    "value": pl.Float64,
    "rank": pl.Int64,  # 1: the best of those that have a value; equal values share the better rank
    "inflation": pl.Float64,  # per cent above ours
    "tau": pl.Float64,  # Kendall's, of the convention's order with ours
    "place": pl.Int64,  # in the tables
}


def audit_figure(found: Audit, notes: tuple[str, ...] = ()) -> Figure:
    """The methods' ranks over the conventions; `ResultsError` for fewer than two methods."""
    if len(found.rows) < 2:
        raise ResultsError(f"ranks need at least two methods, but got {len(found.rows)}; run another one")
    return Figure(
        "audit",
        f"Rank of each method by {found.metric}@{found.k} on {dataset_label(found.rows[0].record)} under the rules of "
        "others, and below them Kendall's tau of each order with ours; a method without a value under a convention is "
        "not ranked there, and lines join columns that rank the same methods.",
        audit_frame(found),
        draw,
        (*notes, *found.notes),
    )


def audit_frame(found: Audit) -> pl.DataFrame:
    """One row per convention and method that has a value under it (`SCHEMA`)."""
    rows = []
    for place, (convention, tau) in enumerate(zip(found.conventions, found.tau, strict=True)):
        values_M = found.values_MC[:, place]
        for index, row in enumerate(found.rows):
            if np.isnan(values_M[index]):
                continue
            rank = 1 + int((values_M > values_M[index]).sum())
            what = (convention.name, row.record.method, row.label, float(values_M[index]), rank)
            rows.append((*what, float(found.inflation_MC[index, place]), tau, row.record.place))
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def draw(frame: pl.DataFrame) -> Picture:
    """A line per method over the conventions, the best on top."""
    from results.figures.drawing.places import places_picture

    return places_picture(frame, "convention")


def figure_of_runs(runs_dir: Path, dataset: str, filters: Filters | None = None) -> Figure:
    """The figure of all unchanged methods; `ResultsError` as in `select_runs` and `audit`."""
    selection = select_runs(runs_dir, dataset, filters, variant="full")
    return audit_figure(audit(selection.rows), selection.notes)


MAKER = FigureMaker(
    "audit",
    "runs of two methods that kept outcomes",
    lambda asked: [figure_of_runs(asked.runs, asked.dataset, asked.filters)],
)
