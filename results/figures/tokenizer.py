"""The tokenizer's codes through training: how many change, how many are used, how evenly, how many items collide."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from results.errors import ResultsError
from results.figures.curves import TOKENIZER, TRAINING
from results.figures.registry import FigureMaker
from results.figures.rendering import Figure
from results.store.schema import HISTORY_SCHEMA, RunRecord
from results.store.selection import Filters, select_runs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Picture

PRETRAINING = "pre-training"

SCHEMA = {
    "part": pl.String,  # `PRETRAINING` or `TRAINING`
    "epoch": pl.Int32,  # of the part; 0 of the training: the pre-trained tokenizer
    "quantity": pl.String,  # codes_changed, used_codes, perplexity, collision_rate
    "level": pl.Int32,  # from 1; null: of all levels together
    "value": pl.Float64,  # shares are of 1
    "codebook_size": pl.Int32,
    "kept": pl.Boolean,  # whether the part ends with the codes of this epoch
}


LEAST_TOP = 0.01  # of an axis: what is nothing everywhere shall look like nothing


class Panel(NamedTuple):
    """A panel's quantity and how its axis is named; shares are shown as per cent."""

    quantity: str
    label: str
    scale: float = 1.0


PANELS = (
    Panel("codes_changed", "Items re-coded (%)", 100.0),
    Panel("used_codes", "Codes in use"),
    Panel("perplexity", "Perplexity"),
    Panel("collision_rate", "Collision rate (%)", 100.0),
)


def tokenizer_figure(
    runs_dir: Path,
    dataset: str,
    method: str,
    filters: Filters | None = None,
    pretraining: pl.DataFrame | None = None,
) -> Figure:
    """The codes of a method's first seed through its tokenizer's pre-training and its own training.

    `pretraining` is as in `curves_figure`. Raises `ResultsError` for a method without codes, and where neither its
    training nor its pre-training is known to have measured them.
    """
    rows = select_runs(runs_dir, dataset, filters, method=method, variant="full")
    row = rows.rows[0]
    run = row.runs[0]
    if "used_codes" not in run.record.health:
        raise ResultsError(f"codes need a tokenizer, but {row.label} has none; name another --method")
    frame = tokenizer_frame(run.history(), pretraining, run.record)
    if frame.is_empty():
        raise ResultsError(
            f"{run.folder} measured no codes while it trained, and the cache has no longer the history of its "
            "tokenizer's pre-training; run it again"
        )
    told = [
        f"The codes of {row.label} on {rows.dataset_label}, seed {row.seeds[0]}, through training, without the "
        "de-duplication level."
    ]
    if (frame["quantity"] == "codes_changed").any():
        told.append("Items re-coded: share of items of which any code changed in a tokenizer epoch.")
    told.append(
        "Perplexity: how many codes of a level would be in use, were they used equally often. Collision rate: share "
        "of items whose codes an earlier item has. Dotted: the epoch that training keeps; dashed: the codes that a "
        "level has."
    )
    return Figure("tokenizer", " ".join(told), frame, draw, rows.notes)


def tokenizer_frame(history: pl.DataFrame, pretraining: pl.DataFrame | None, record: RunRecord) -> pl.DataFrame:
    """What is known of the codes (`SCHEMA`), from a run's history, its pre-training's, and the codes that it kept.

    A run that was made before training measured its codes has those at its beginning and at its end.
    """
    before = HISTORY_SCHEMA.to_frame() if pretraining is None else pretraining
    before = before.filter(pl.col("stage") == TOKENIZER)
    moving = history.filter(pl.col("quantity") == "measure/codes_changed")["stage"].unique().to_list()
    own = history.filter(pl.col("stage").is_in(moving))
    parts = [_measures(before, PRETRAINING, _best_epoch(before))]
    if not own.is_empty():
        start = before.filter(pl.col("epoch") == _best_epoch(before)).with_columns(epoch=pl.lit(0, pl.Int32))
        measured = pl.concat([start, own])
        if not own["quantity"].str.starts_with("measure/used_codes").any():
            measured = pl.concat([measured, _final(record, _last_epoch(own))])
        parts.append(_measures(measured, TRAINING, _best_epoch(own)))
    size = pl.lit(record.health.get("codebook_size"), pl.Int32)
    return pl.concat(parts).with_columns(codebook_size=size).select(list(SCHEMA)).cast(pl.Schema(SCHEMA))


def _measures(history: pl.DataFrame, part: str, best_epoch: int) -> pl.DataFrame:
    """The measures of a history that a panel shows; `kept` are the last ones up to the best epoch."""
    names = "|".join(panel.quantity for panel in PANELS)
    found = history.select(
        "epoch",
        "value",
        part=pl.lit(part),
        quantity=pl.col("quantity").str.extract(rf"^measure/({names})(_\d+)?$"),
        level=pl.col("quantity").str.extract(r"_(\d+)$").cast(pl.Int32),
    ).filter(pl.col("quantity").is_not_null())
    last = pl.col("epoch").filter(pl.col("epoch") <= best_epoch).max().over("quantity")
    return found.with_columns(kept=(pl.col("epoch") == last).fill_null(False))


def _final(record: RunRecord, epoch: int) -> pl.DataFrame:
    """The health of the codes that a run kept, as measures of an epoch (`HISTORY_SCHEMA`)."""
    health = record.health
    measures = {"measure/collision_rate": health["collision_rate"]}
    for name in ("used_codes", "perplexity"):
        measures |= {f"measure/{name}_{level}": value for level, value in enumerate(health[name], start=1)}
    rows = [(TRAINING, "kept", epoch, name, float(value)) for name, value in measures.items()]
    return pl.DataFrame(rows, schema=HISTORY_SCHEMA, orient="row")


def _best_epoch(history: pl.DataFrame) -> int:
    """The epoch with the highest score, the first of equals; the last one where none was scored."""
    scores = history.filter(pl.col("quantity") == "score").sort("value", "epoch", descending=[True, False])
    return _last_epoch(history) if scores.is_empty() else int(scores["epoch"][0])


def _last_epoch(history: pl.DataFrame) -> int:
    return max(history["epoch"].to_list(), default=0)


def draw(frame: pl.DataFrame) -> Picture:
    """A row per quantity; pre-training on the left, the method's own training on the right."""
    from results.figures.drawing.looks import BLACK, FULL, picture

    present = frame["quantity"].unique().to_list()
    panels = [panel for panel in PANELS if panel.quantity in present]
    parts = frame["part"].unique(maintain_order=True).to_list()
    drawn = picture(FULL, 0.7 + 1.15 * len(panels))
    grid = drawn.subplots(
        len(panels),
        len(parts),
        sharex="col",
        sharey="row",
        squeeze=False,
        gridspec_kw={"width_ratios": [1.0, 1.8] if len(parts) == 2 else [1.0]},
    )
    for column, part in enumerate(parts):
        for axes, panel in zip(grid[:, column], panels, strict=True):
            shown = frame.filter((pl.col("part") == part) & (pl.col("quantity") == panel.quantity))
            if shown.is_empty():
                axes.set_axis_off()
                continue
            _panel(axes, shown, panel)
            every = frame.filter(pl.col("quantity") == panel.quantity)["value"].to_list()
            axes.set_ylim(0, panel.scale * max(LEAST_TOP, 1.08 * max(every)))
            for epoch in shown.filter("kept")["epoch"].unique():
                axes.axvline(epoch, color=BLACK, linewidth=0.7, linestyle=":", zorder=1)
        last = grid[-1, column]
        last.xaxis.get_major_locator().set_params(integer=True)
        last.set_xlabel("Epoch of pre-training" if part == PRETRAINING else "Epoch of training")
    for row, panel in enumerate(panels):
        shown_axes = next(axes for axes in grid[row] if axes.axison)
        shown_axes.set_ylabel(panel.label)
        shown_axes.tick_params(labelleft=True)
    handles = next(axes for axes in grid[:, -1][::-1] if len(axes.get_legend_handles_labels()[0]) > 1)
    lines, labels = handles.get_legend_handles_labels()
    empty = [axes for axes in grid[:, 0] if not axes.axison]
    if empty:
        empty[0].legend(lines, labels, loc="center left")
    else:
        drawn.legend(lines, labels, loc="outside upper center", ncols=len(labels))
    drawn.align_ylabels(grid[:, 0])
    return drawn


def _panel(axes: Axes, shown: pl.DataFrame, panel: Panel) -> None:
    """A line per level, or one line."""
    from results.figures.drawing.looks import BLACK, GREY, LOOKS, Look

    if shown["level"].null_count():
        looks, names = {None: Look(BLACK, "o", "-", "")}, {None: ""}
    else:
        levels = shown["level"].unique().sort().to_list()
        looks = dict(zip(levels, [LOOKS[place % len(LOOKS)] for place in range(len(levels))], strict=True))
        names = {level: f"Level {level}" for level in levels}
    for level, look in looks.items():
        line = shown if level is None else shown.filter(pl.col("level") == level)
        axes.plot(
            line["epoch"],
            line["value"] * panel.scale,
            color=look.color,
            marker=look.marker,
            linestyle=look.line,
            markersize=3.2,
            markevery=max(1, len(line) // 20),
            linewidth=1.0,
            label=names[level],
            clip_on=False,
        )
    size = shown["codebook_size"][0]
    if panel.quantity == "used_codes" and size is not None:
        axes.axhline(size, color=GREY, linewidth=0.7, linestyle=(0, (6, 3)), zorder=1)


MAKER = FigureMaker(
    "tokenizer",
    "a run of a method with item codes",
    lambda asked: [tokenizer_figure(asked.runs, asked.dataset, asked.method, asked.filters, asked.pretraining())],
)
