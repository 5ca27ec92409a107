"""Training curves of a method's stages: losses, and what the stage is selected by (METHODS C.3)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from results.errors import ResultsError
from results.figures.registry import FigureMaker
from results.figures.rendering import Figure
from results.store.schema import HISTORY_SCHEMA
from results.store.selection import Filters, select_runs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Picture
    from matplotlib.lines import Line2D

    from results.figures.drawing.looks import Look

TRAINING = "training"  # the part of the picture that the method's own stages share
TOKENIZER = "tokenizer"  # the stage, and the phase, that trains one
COLLISIONS = "measure/collision_rate"
SUBSCRIPTS = {"rec": "REC", "sq": "SQ", "sia": "SIA", "psa": "PSA"}  # of the losses, as the paper names them
TITLES = {"sasrec": "SASRec", TOKENIZER: "tokenizer", "finetuning": "fine-tuning"}  # of stages

LEAST_TOP = 1e-4  # of an axis, where all values are nothing
FEW = 50  # points of a line, or ticks of an axis, that are told apart

SCHEMA = {
    "part": pl.String,  # of the picture: a stage of the pre-training, or `TRAINING`
    "stage": pl.String,
    "phase": pl.String,
    "epoch": pl.Int32,  # of the stage, from 1
    "position": pl.Int32,  # on the part's axis
    "quantity": pl.String,  # loss/<name>, score, measure/collision_rate
    "value": pl.Float64,
}


def curves_figure(
    runs_dir: Path,
    dataset: str,
    method: str,
    filters: Filters | None = None,
    pretraining: pl.DataFrame | None = None,
) -> Figure:
    """The curves of a method's first seed.

    `pretraining` (`HISTORY_SCHEMA`) is the history of the stages that the method stands on, where it is known.
    Raises `ResultsError` for a method that is not trained by epochs, and as `select_runs` does.
    """
    rows = select_runs(runs_dir, dataset, filters, method=method, variant="full")
    row = rows.rows[0]
    history = row.runs[0].history()
    if history.is_empty():
        raise ResultsError(f"curves need epochs, but {row.label} is not trained by any; name another --method")
    frame = curves_frame(history, pretraining)
    own = frame.filter(pl.col("part") == TRAINING)
    two_phases = own["phase"].n_unique() > 1
    told = [
        f"Training of {row.label} on {rows.dataset_label}, seed {row.seeds[0]}: losses, and NDCG@10 on the "
        "validation items, from 0; stars: each stage's best, which is kept.",
        "Ticks on the axis: tokenizer epochs; dashed and open: their losses." if two_phases else "",
        "A tokenizer is kept by its collisions: the share of items whose codes another item has."
        if (frame["part"] == TOKENIZER).any()
        else "",
    ]
    return Figure("curves", " ".join(filter(None, told)), frame, draw, rows.notes)


def curves_frame(history: pl.DataFrame, pretraining: pl.DataFrame | None = None) -> pl.DataFrame:
    """The curves (`SCHEMA`) of a run's history and of its pre-training's (both `HISTORY_SCHEMA`).

    A `loss/total` stands only where it is the epoch's only loss. Where other epochs of its phase part it, the single
    loss is the recommendation loss: before its alignments begin and after they end, ETEGRec minimises that alone.
    """
    before = HISTORY_SCHEMA.to_frame() if pretraining is None else pretraining
    stages = history["stage"].unique(maintain_order=True).to_list()
    lengths = [max(history.filter(pl.col("stage") == stage)["epoch"].to_list()) for stage in stages]
    starts = {stage: sum(lengths[:place]) for place, stage in enumerate(stages)}
    parts = [
        before.with_columns(part="stage", position="epoch"),
        history.with_columns(
            part=pl.lit(TRAINING),
            position=pl.col("epoch") + pl.col("stage").replace_strict(starts, return_dtype=pl.Int32),
        ),
    ]
    wanted = pl.col("quantity").str.starts_with("loss/") | pl.col("quantity").is_in(["score", COLLISIONS])
    frame = pl.concat(part.select(list(SCHEMA)).cast(pl.Schema(SCHEMA)) for part in parts).filter(wanted)
    is_loss, is_total = pl.col("quantity").str.starts_with("loss/"), pl.col("quantity") == "loss/total"
    alone = is_total & (is_loss.sum().over("part", "stage", "phase", "epoch") == 1)
    parted = (pl.col("quantity") == "loss/rec").any().over("part", "phase")
    return (
        frame.with_columns(
            quantity=pl.when(alone & parted).then(pl.lit("loss/rec")).otherwise("quantity"), drop=is_total & ~alone
        )
        .filter(~pl.col("drop"))
        .drop("drop")
    )


def draw(frame: pl.DataFrame) -> Picture:
    """A column per part of the training; losses above, what selects below."""
    from results.figures.drawing.looks import FULL, picture

    parts = frame["part"].unique(maintain_order=True).to_list()
    drawn = picture(FULL if len(parts) > 1 else 5.0, 3.2)
    grid = drawn.subplots(
        2, len(parts), sharex="col", squeeze=False, gridspec_kw={"width_ratios": [1.0] * (len(parts) - 1) + [2.6]}
    )
    for column, part in enumerate(parts):
        upper, lower = grid[:, column]
        rows = frame.filter(pl.col("part") == part)
        _losses(upper, rows)
        _selection(lower, rows)
        lower.set_xlabel("Epoch" if part == TRAINING else "Pre-training epoch")
        _stages([upper, lower], rows)
    handles = _legend(frame.filter(pl.col("part") == TRAINING))
    if handles:
        drawn.legend(handles=handles, loc="outside right center")
    return drawn


def _losses(axes: Axes, rows: pl.DataFrame) -> None:
    """A line per loss and phase; logarithmic where they differ much."""
    looks = _looks(rows)
    losses = rows.filter(pl.col("quantity").is_in(list(looks)))
    for (quantity, phase), line in losses.group_by("quantity", "phase", maintain_order=True):
        look = looks[str(quantity)]
        is_second = phase == TOKENIZER and rows["phase"].n_unique() > 1
        axes.plot(
            line["position"],
            line["value"],
            color=look.color,
            linestyle=(0, (3, 2)) if is_second else "-",
            marker=look.marker,
            markerfacecolor="white" if is_second else look.color,
            markeredgewidth=0.7,
            markersize=3.2,
            markevery=(len(line) // 12 if is_second else 0, max(1, len(line) // 6)),
            linewidth=0.8 if is_second else 1.1,
        )
    values = losses["value"].to_list()
    axes.margins(y=0.1)
    if values and 0 < 20 * min(values) < max(values):
        axes.set_yscale("log")
        axes.set_ylabel("Loss (log scale)")
    else:
        axes.set_ylim(min([0.0, *values]), 1.1 * max([LEAST_TOP, *values]))
        axes.set_ylabel("Loss")
    if rows["part"][0] != TRAINING and len(looks) > 1:
        axes.legend(handles=_legend(rows), fontsize=6.0, handlelength=1.2, loc="best")


def _selection(axes: Axes, rows: pl.DataFrame) -> None:
    """The scores of each stage, or a tokenizer's collisions, and a star where the best weights were."""
    from results.figures.drawing.looks import BLACK, VERMILLION

    is_tokenizer = rows["part"][0] == TOKENIZER
    axes.set_ylabel("Collision rate (%)" if is_tokenizer else "Validation NDCG@10")
    shown = rows.filter(pl.col("quantity") == (COLLISIONS if is_tokenizer else "score"))
    shown = shown.with_columns(pl.col("value") * (100.0 if is_tokenizer else 1.0))
    for _, line in shown.group_by("stage", maintain_order=True):
        marker = "." if len(line) <= FEW else ""
        axes.plot(line["position"], line["value"], color=BLACK, marker=marker, markersize=3.5, linewidth=1.0)
    axes.set_ylim(0, max([1.0 if is_tokenizer else LEAST_TOP, *(1.1 * shown["value"])]))
    for place in best_positions(rows):
        at = shown.filter(pl.col("position") == place)
        axes.plot(
            at["position"],
            at["value"],
            "*",
            color=VERMILLION,
            markersize=9,
            markeredgecolor="white",
            zorder=4,
            clip_on=False,
        )


def best_positions(rows: pl.DataFrame) -> list[int]:
    """Where each stage had its highest score, the first of equals."""
    scores = rows.filter(pl.col("quantity") == "score")
    return [
        int(stage.sort("value", "position", descending=[True, False])["position"][0])
        for _, stage in scores.group_by("stage", maintain_order=True)
    ]


def _stages(panels: list[Axes], rows: pl.DataFrame) -> None:
    """The name of each stage above it, a line where one ends, and a tick for each tokenizer epoch."""
    from results.figures.drawing.looks import BLACK, GREY, SMALL

    stages = rows.group_by("stage", maintain_order=True).agg(
        first=pl.col("position").min(), last=pl.col("position").max()
    )
    for place, (stage, first, last) in enumerate(stages.iter_rows()):
        across = panels[0].get_xaxis_transform()
        name = TITLES.get(stage, stage)
        panels[0].text((first + last) / 2, 1.03, name, transform=across, ha="center", fontsize=SMALL + 1)
        for axes in panels if place else ():
            axes.axvline(first - 0.5, color=BLACK, linewidth=0.7, linestyle=(0, (4, 3)))
    phases = rows.select("position", "phase").unique(maintain_order=True)
    ticks = phases.filter(pl.col("phase") == TOKENIZER)["position"].to_list() if phases["phase"].n_unique() > 1 else []
    for axes in panels if ticks else ():
        width = 0.8 if len(ticks) <= FEW else 0.3
        axes.vlines(ticks, 0.0, 0.035, transform=axes.get_xaxis_transform(), color=GREY, linewidth=width)


def _looks(rows: pl.DataFrame) -> dict[str, Look]:
    """The look of each loss of the rows, by quantity; the paper's ones have the same in every figure."""
    from results.figures.drawing.looks import BLACK, LOOKS, Look

    known = [f"loss/{name}" for name in SUBSCRIPTS]
    present = rows.filter(pl.col("quantity").str.starts_with("loss/"))["quantity"].unique(maintain_order=True).to_list()
    others = [quantity for quantity in present if quantity not in known]
    looks = dict(zip([*known, *others], [*LOOKS, *LOOKS], strict=False)) | {"loss/total": Look(BLACK, ".", "-", "")}
    return {quantity: looks[quantity] for quantity in [*known, *others] if quantity in present}


def _legend(rows: pl.DataFrame) -> list[Line2D]:
    """What the lines of a part are; empty where there is one loss."""
    from matplotlib.lines import Line2D

    from results.figures.drawing.looks import GREY

    looks = _looks(rows)
    if len(looks) < 2:
        return []
    handles = []
    for quantity, look in looks.items():
        name = quantity.removeprefix("loss/")
        label = rf"$\mathcal{{L}}_\mathrm{{{SUBSCRIPTS[name]}}}$" if name in SUBSCRIPTS else name
        handles.append(Line2D([], [], color=look.color, marker=look.marker, markersize=3.2, label=label))
    if rows["phase"].n_unique() > 1:
        handles.append(Line2D([], [], color=GREY, label="recommender\nepochs"))
        handles.append(
            Line2D(
                [],
                [],
                color=GREY,
                linestyle=(0, (3, 2)),
                linewidth=0.8,
                marker="o",
                markersize=3.2,
                markerfacecolor="white",
                label="tokenizer\nepochs",
            )
        )
    return handles


MAKER = FigureMaker(
    "curves",
    "a run of a method that is trained by epochs",
    lambda asked: [curves_figure(asked.runs, asked.dataset, asked.method, asked.filters, asked.pretraining())],
)
