"""Unseen users: accuracy for users of whom methods learnt something and of whom nothing (METHODS D.2; Figure 2)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from results.errors import ResultsError
from results.figures.registry import FigureMaker
from results.figures.rendering import Figure
from results.statistics.inference import bootstrap_interval, fixed_random
from results.store.find import RunFilter, find_runs
from results.store.selection import Filters, Selection, select_runs

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Picture

METRIC = ("Recall", 10)
SPLIT = "unseen-users"  # ends the name of a data set that is split so
KINDS = ("seen", "new")

SCHEMA = {
    "method": pl.String,
    "label": pl.String,
    "users": pl.String,  # seen or new
    "num_users": pl.Int64,
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
}


def unseen_figure(runs_dir: Path, dataset: str, filters: Filters | None = None) -> Figure:
    """Recall@10 of seen and of new users, for every unchanged method that was run under the split.

    Raises `ResultsError` where there are no such runs, and as `select_runs` does.
    """
    names = {run.record.dataset for run in find_runs(runs_dir, RunFilter(dataset=dataset))} or {dataset}
    original = min(names).removesuffix(f"-{SPLIT}")
    name = dataset if min(names) != original else f"{original}-{SPLIT}"
    if not find_runs(runs_dir, RunFilter(dataset=name, variant="full")):
        raise ResultsError(
            f"no runs of {name}; make them with: harness run --dataset {original} --split {SPLIT} "
            "--methods tiger,letter,etegrec"
        )
    rows = select_runs(runs_dir, name, filters, variant="full")
    frame = unseen_frame(rows)
    counts = dict(frame.select("users", "num_users").unique(maintain_order=True).iter_rows())
    return Figure(
        "unseen",
        f"Recall@10 on {rows.dataset_label}, for the {counts['seen']:,} users that the methods learnt from and for the "
        f"{counts['new']:,} new users of whom nothing was learnt. Lines: 95 % bootstrap intervals over "
        f"{rows.resampled}; {rows.seeds_label}.",
        frame,
        draw,
        rows.notes,
    )


def unseen_frame(rows: Selection) -> pl.DataFrame:
    """One row per method and kind of users (`SCHEMA`); `ResultsError` where no user is new, or none is seen."""
    found = []
    for row in rows.rows:
        run = row.runs[0]
        is_new_U = run.cases().sort("user")["new_user"].to_numpy()
        values_SU, owners_U = row.values(*METRIC), row.owners
        for kind, member_U in zip(KINDS, (~is_new_U, is_new_U), strict=True):
            if not member_U.any():
                raise ResultsError(f"{run.folder} must have seen and new users, but has no {kind} ones")
            owners = None if owners_U is None else owners_U[member_U]
            interval = bootstrap_interval(values_SU[:, member_U], fixed_random(), owners)
            found.append((row.record.method, row.label, kind, int(member_U.sum()), *interval))
    return pl.DataFrame(found, schema=SCHEMA, orient="row")


def draw(frame: pl.DataFrame) -> Picture:
    """A pair of bars per method."""
    from results.figures.drawing.looks import BLUE, COLUMN, FULL, ORANGE, picture

    labels = frame["label"].unique(maintain_order=True).to_list()
    drawn = picture(COLUMN if len(labels) <= 4 else FULL, 2.4)
    axes = drawn.subplots()
    width = 0.38
    for kind, color, hatch, side in zip(KINDS, (BLUE, ORANGE), ("", "////"), (-0.5, 0.5), strict=True):
        part = frame.filter(pl.col("users") == kind)
        places = np.arange(len(part)) + side * width
        axes.bar(
            places,
            part["value"],
            width,
            color=color,
            hatch=hatch,
            edgecolor="white",
            linewidth=0.0,
            label=f"{kind} users ({part['num_users'][0]:,})",
        )
        axes.vlines(places, part["low"], part["high"], color="black", linewidth=0.8)
    axes.set_xticks(range(len(labels)), labels)
    axes.tick_params(axis="x", length=0)
    axes.grid(axis="x", visible=False)
    axes.set_ylabel("Recall@10")
    axes.set_ylim(0, None)
    drawn.legend(loc="outside upper center", ncols=2)
    return drawn


MAKER = FigureMaker(
    "unseen",
    "runs under the split of unseen users",
    lambda asked: [unseen_figure(asked.runs, asked.dataset, asked.filters)],
)
