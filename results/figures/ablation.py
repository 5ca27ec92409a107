"""Ablation: what each variant loses or gains against the full method, as a forest plot (METHODS D.1)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from results.errors import ResultsError
from results.figures.registry import FigureMaker
from results.figures.rendering import Figure
from results.published import paper
from results.statistics.inference import bootstrap_difference, fixed_random
from results.store.selection import Filters, Selection, check_one_population, select_runs

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Picture

METRICS = (("Recall", 10), ("NDCG", 10))

SCHEMA = {
    "variant": pl.String,
    "label": pl.String,
    "metric": pl.String,
    "full": pl.Float64,
    "value": pl.Float64,
    "difference": pl.Float64,  # value - full
    "low": pl.Float64,  # of the 95 % interval of the difference
    "high": pl.Float64,
    "published_difference": pl.Float64,  # the paper's, on the same data set; null: it prints none
}


def ablation_figure(runs_dir: Path, dataset: str, method: str, filters: Filters | None = None) -> Figure:
    """The differences of a method's variants from the full method, on the same users.

    Raises `ResultsError` where the full method or a variant lacks, and as `select_runs` does.
    """
    rows = select_runs(runs_dir, dataset, filters, method=method)
    check_one_population(rows.rows)
    is_full = rows.rows[0].record.variant == "full"
    if not is_full or len(rows.rows) == 1:
        missing = "a variant" if is_full else "the full method"
        raise ResultsError(
            f"a figure of differences needs the full method and a variant, but {missing} of '{method}' has no finished "
            f"run on '{dataset}'; make it with: harness run --dataset {dataset} --methods {method} --ablation all"
        )
    frame = ablation_frame(rows, dataset)
    full = rows.rows[0].short_label
    in_paper = frame["published_difference"].is_not_null().any()
    return Figure(
        "ablation",
        f"Ablation of {full} on {rows.dataset_label}: each variant minus {full} "
        f"({', '.join(f'{name} {value:.4f}' for name, value in full_values(frame).items())}). Lines: 95 % bootstrap "
        f"intervals over paired {rows.resampled}; {rows.seeds_label}. Filled: the interval does not hold 0."
        + (" Crosses: the paper's differences." if in_paper else ""),
        frame,
        draw,
        rows.notes,
    )


def ablation_frame(rows: Selection, dataset: str) -> pl.DataFrame:
    """One row per variant and metric (`SCHEMA`); the first of `rows` is the full method."""
    full, *variants = rows.rows
    reference = paper.ablation(paper.PAPER_DATASETS[dataset]) if dataset in paper.PAPER_DATASETS else {}
    found = []
    for row in variants:
        for metric, k in METRICS:
            ours, base = row.values(metric, k), full.values(metric, k)
            interval = bootstrap_difference(ours, base, fixed_random(), row.owners)
            printed = [reference.get((label, metric, k)) for label in (row.short_label, full.short_label)]
            known = [float(value) for value in printed if value is not None]
            values = (float(base.mean()), float(ours.mean()), *interval)
            difference = known[0] - known[1] if len(known) == 2 else None
            found.append((row.record.variant, row.short_label, f"{metric}@{k}", *values, difference))
    return pl.DataFrame(found, schema=SCHEMA, orient="row")


def full_values(frame: pl.DataFrame) -> dict[str, float]:
    """The full method's value of each metric."""
    return dict(frame.select("metric", "full").unique(maintain_order=True).iter_rows())


def draw(frame: pl.DataFrame) -> Picture:
    """A panel per metric, a line per variant."""
    from results.figures.drawing.looks import BLUE, FULL, GREY, SMALL, picture

    labels = frame["label"].unique(maintain_order=True).to_list()
    metrics = frame["metric"].unique(maintain_order=True).to_list()
    drawn = picture(FULL, 0.75 + 0.24 * len(labels))
    panels = drawn.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    for axes, metric in zip(panels, metrics, strict=True):
        for place, row in enumerate(frame.filter(pl.col("metric") == metric).iter_rows(named=True)):
            is_clear = not row["low"] <= 0 <= row["high"]
            axes.plot([row["low"], row["high"]], [place, place], color=BLUE, solid_capstyle="butt")
            axes.plot(
                row["difference"], place, "o", color=BLUE, markersize=5, markerfacecolor=BLUE if is_clear else "white"
            )
            if row["published_difference"] is not None:
                axes.plot(row["published_difference"], place, "x", color=GREY, markersize=5)
            axes.annotate(
                f"{row['difference']:+.4f}",
                (1.0, place),
                (4, 0),
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                va="center",
                fontsize=SMALL,
                annotation_clip=False,
            )
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set_xlabel(f"Difference in {metric}")
        axes.margins(x=0.08)
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        axes.locator_params(axis="x", nbins=6)
        axes.spines["left"].set_visible(False)
    panels[0].set_yticks(range(len(labels)), labels)
    panels[0].set_ylim(len(labels) - 0.4, -0.6)
    return drawn


MAKER = FigureMaker(
    "ablation",
    "runs of a method and its variants",
    lambda asked: [ablation_figure(asked.runs, asked.dataset, asked.method, asked.filters)],
)
