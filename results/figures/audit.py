"""The audit as a picture: which place each method has under each convention."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from results.errors import ResultsError
from results.figures.registry import FigureMaker, FigureRequest
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
        "not ranked there.",
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
    from results.figures.drawing.looks import FULL, GREY, POINT, SMALL, dark, looks_of, picture

    conventions = frame["convention"].unique(maintain_order=True).to_list()
    labels = frame["label"].unique(maintain_order=True).to_list()
    looks = looks_of(dict(frame.select("method", "place").unique(maintain_order=True).iter_rows()))
    drawn = picture(FULL, 1.0 + 0.3 * len(labels))
    axes = drawn.subplots()
    for label in labels:
        own = frame.filter(pl.col("label") == label)
        look = looks[own["method"][0]]
        ranks = dict(own.select("convention", "rank").iter_rows())
        places = [ranks.get(convention, np.nan) for convention in conventions]
        axes.plot(range(len(conventions)), places, color=look.color, linestyle=look.line)
        axes.plot(range(len(conventions)), places, look.marker, color=look.color, **POINT)
        axes.annotate(
            label,
            (len(conventions) - 1, places[-1] if not np.isnan(places[-1]) else places[0]),
            (8, 0),
            textcoords="offset points",
            va="center",
            color=dark(look.color),
            annotation_clip=False,
        )
    for place, convention in enumerate(conventions):
        tau = frame.filter(pl.col("convention") == convention)["tau"][0]
        shown = "" if np.isnan(tau) else f"{tau:.2f}"
        axes.annotate(shown, (place, len(labels) + 0.75), ha="center", va="center", color=GREY, fontsize=SMALL)
    axes.set_xticks(range(len(conventions)), conventions, rotation=30, ha="right")
    axes.set_yticks([*range(1, len(labels) + 1), len(labels) + 0.75], [*range(1, len(labels) + 1), "tau"])
    axes.set_ylim(len(labels) + 1.1, 0.5)
    axes.set_xlim(-0.5, len(conventions) - 0.5)
    axes.set_ylabel("Rank")
    axes.grid(axis="x", visible=False)
    return drawn


def figure_of_runs(runs_dir: Path, dataset: str, filters: Filters | None = None) -> Figure:
    """The figure of all unchanged methods; `ResultsError` as in `select_runs` and `audit`."""
    selection = select_runs(runs_dir, dataset, filters, variant="full")
    return audit_figure(audit(selection.rows), selection.notes)


def _make(asked: FigureRequest) -> list[Figure]:
    return [figure_of_runs(asked.runs, asked.dataset, asked.filters)]


MAKER = FigureMaker("audit", "runs of two methods that kept outcomes", _make)
