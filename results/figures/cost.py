"""Cost: how accurate each method is, against how long its stages trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from results.figures.registry import FigureMaker
from results.figures.rendering import Figure
from results.statistics.inference import bootstrap_interval, fixed_random
from results.store.selection import Filters, Selection, select_runs

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Picture

METRIC = ("NDCG", 10)
TEST = "test"  # the stage that only evaluates

SCHEMA = {
    "method": pl.String,
    "label": pl.String,
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "seconds": pl.Float64,
    "parameters": pl.Int64,
    "device": pl.String,
    "threads": pl.Int64,
    "place": pl.Int64,  # in the tables
}


def cost_figure(runs_dir: Path, dataset: str, filters: Filters | None = None) -> Figure:
    """Every unchanged method's NDCG@10 against the seconds of its stages; `ResultsError` as in `select_runs`."""
    rows = select_runs(runs_dir, dataset, filters, variant="full")
    frame = cost_frame(rows)
    machines = frame.select("device", "threads").unique(maintain_order=True).rows()
    on = ", ".join(f"{device} with {threads} thread{'s' * (threads != 1)}" for device, threads in machines)
    return Figure(
        "cost",
        f"Accuracy and cost of training on {rows.dataset_label}: NDCG@10 on the test items (95 % bootstrap intervals "
        f"over {rows.resampled}; {rows.seeds_label}) against the wall-clock seconds of all stages that a method needs, "
        f"those that it shares with others included, without the test; {on}.",
        frame,
        draw,
        rows.notes,
    )


def cost_frame(rows: Selection) -> pl.DataFrame:
    """One row per method (`SCHEMA`): means over seeds."""
    found = []
    for row in rows.rows:
        records = [run.record for run in row.runs]
        seconds = [sum(value for stage, value in r.seconds.items() if stage != TEST) for r in records]
        interval = bootstrap_interval(row.values(*METRIC), fixed_random(), row.owners)
        first = records[0]
        found.append(
            (
                *(row.record.method, row.label, *interval, float(np.mean(seconds))),
                *(first.num_parameters, first.device, first.threads, first.place),
            )
        )
    return pl.DataFrame(found, schema=SCHEMA, orient="row")


def draw(frame: pl.DataFrame) -> Picture:
    """A labelled point per method."""
    from matplotlib.transforms import Bbox

    from results.figures.drawing.looks import COLUMN, POINT, label_points, looks_of, picture, settle_layout

    drawn = picture(COLUMN, 2.8)
    axes = drawn.subplots()
    looks = looks_of(dict(frame.select("method", "place").iter_rows()))
    for row in frame.iter_rows(named=True):
        look = looks[row["method"]]
        axes.plot([row["seconds"]] * 2, [row["low"], row["high"]], color=look.color, linewidth=0.8)
        axes.plot(row["seconds"], row["value"], look.marker, color=look.color, **POINT)
    axes.set_xscale("log")
    axes.set_xlabel("Training time (s)")
    axes.set_ylabel("NDCG@10")
    axes.margins(x=0.1, y=0.08)
    axes.set_ylim(bottom=0)
    least, most = np.log10(axes.get_xlim())
    span = most - least  # with room for labels on both sides
    axes.set_xlim(10 ** (least - 0.12 * span), 10 ** (most + 0.3 * span))
    settle_layout(axes)
    ends = axes.transData.transform(np.stack([frame["seconds"], frame["low"]], axis=1))
    tops = axes.transData.transform(np.stack([frame["seconds"], frame["high"]], axis=1))
    bars = [Bbox.from_extents(x - 2, low, x + 2, high) for (x, low), (_, high) in zip(ends, tops, strict=True)]
    points = frame.select("seconds", "value").to_numpy()
    colors = [looks[method].color for method in frame["method"]]
    label_points(axes, points, frame["label"].to_list(), colors, bars)
    return drawn


MAKER = FigureMaker(
    "cost", "runs of some methods", lambda asked: [cost_figure(asked.runs, asked.dataset, asked.filters)]
)
