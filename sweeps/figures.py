"""Figures of studies: the curves of single fields (METHODS D.4; Figure 4), and how a search went.

Every score is of the validation items: a sweep never reads the test split.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from harness.errors import UsageError
from harness.methods import method_named
from results.figures.rendering import Figure
from sweeps.summaries import StudySummary, importances, state_of, trials_frame
from sweeps.trials import ERRORS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Picture

METRICS = {"value": "NDCG@10", "recall": "Recall@10"}  # columns of a trials frame

CURVES_SCHEMA = {
    "study": pl.String,
    "seed": pl.Int64,
    "field": pl.String,
    "setting": pl.Float64,  # the field's value
    "is_default": pl.Boolean,
    "metric": pl.String,
    "value": pl.Float64,
    "error": pl.Float64,  # standard error of the value over users; null: an earlier version did not keep it
}
NORMAL_95 = 1.96  # standard errors to either side of a 95 % interval

SEARCH_SCHEMA = {
    "trial": pl.Int64,  # null in a field's row
    "state": pl.String,
    "value": pl.Float64,  # of a pruned trial: what it had reached
    "error": pl.Float64,  # standard error of a complete trial's value over users, where it was kept
    "best": pl.Float64,  # of the complete trials up to this one
    "field": pl.String,  # null in a trial's row
    "importance": pl.Float64,  # the field's share of what decides the value
}


def hyperparameters_figure(studies: Sequence[StudySummary], dataset: str, method: str) -> Figure:
    """NDCG@10 and Recall@10 against each field that a grid study of the data set moved alone.

    Of several studies of a field, those of the settings that ran last count, a seed each. `UsageError` without any.
    """
    known = method_named(method).curves
    curves = chosen_curves(
        [s for s in studies if (s.sweep.dataset, s.sweep.method) == (dataset, method)], order=list(known)
    )
    frame = pl.concat([pl.DataFrame(schema=CURVES_SCHEMA), *(curve_frame(study) for study in curves)])
    if frame.is_empty():
        fields = ", and with --grid ".join(field.rstrip("_") for field in known or method_named(method).grid)
        raise UsageError(
            f"no grid study of {method} on '{dataset}' has a complete trial; make them with: harness sweep --dataset "
            f"{dataset} --method {method} --grid {fields}"
        )
    first = curves[0].sweep
    title = method_named(method).title
    seeds = frame.group_by("field").agg(pl.col("seed").n_unique())["seed"].to_list()
    lines = []
    if max(seeds) > 1:
        lines.append("least to greatest of the seeds")
    if min(seeds) == 1 and frame["error"].count():
        lines.append("95 % intervals over users" + ", where there is one seed" * bool(lines))
    spread = f" Vertical lines: {'; '.join(lines)}." if lines else ""
    return Figure(
        "hyperparameters",
        f"{title} on {dataset}: NDCG@10 and Recall@10 on the validation items against the weights of its alignments, "
        f"one moved at a time; preset {first.preset}, {_count(max(seeds), 'seed')}. Dotted: the default; the axis is "
        f"logarithmic, with 0 set apart. Scores start at 0.{spread}",
        frame,
        partial(draw_curves, symbols={field: curve.symbol for field, curve in known.items()}),
    )


def chosen_curves(studies: Sequence[StudySummary], order: Sequence[str]) -> list[StudySummary]:
    """Of the grid studies those to show: for each field, all seeds of the settings whose trials ended last.

    Fields of `order` come first, so ordered, then the others by name.
    """
    alike: dict[str, dict[str, list[StudySummary]]] = defaultdict(lambda: defaultdict(list))
    for study in studies:
        if study.sweep.curve is not None and study.best is not None:
            settings = {name: value for name, value in study.sweep.deciding.items() if name != "seed"}
            alike[study.sweep.curve][str(settings)].append(study)
    return [
        study
        for field in [*(name for name in order if name in alike), *sorted(set(alike) - set(order))]
        for study in max(alike[field].values(), key=lambda group: max(map(_last_end, group)))
    ]


def curve_frame(study: StudySummary) -> pl.DataFrame:
    """One row per value of the study's field and metric (`CURVES_SCHEMA`), by value."""
    field = study.sweep.curve
    assert field is not None
    complete = trials_frame(study).filter(pl.col("state") == "complete").unique(field, keep="first").sort(field)
    errors = {trial.number: trial.user_attrs.get(ERRORS, (None, None)) for trial in study.trials}
    rows = [
        (*(study.name, study.sweep.seed, field, setting, setting == study.sweep.config[field]), metric, value, error)
        for number, setting, *scores in complete.select("number", field, *METRICS).iter_rows()
        for metric, value, error in zip(METRICS.values(), scores, errors[number], strict=True)
    ]
    return pl.DataFrame(rows, schema=CURVES_SCHEMA, orient="row", strict=False)


def draw_curves(frame: pl.DataFrame, symbols: Mapping[str, str]) -> Picture:
    """A panel per field, a y axis per metric; `symbols`: how an axis names a field, where not by its name."""
    from results.figures.drawing.looks import COLUMN, FULL, picture

    fields = frame["field"].unique(maintain_order=True).to_list()
    drawn = picture(FULL if len(fields) > 1 else COLUMN, 2.5)
    panels = drawn.subplots(1, len(fields), squeeze=False, gridspec_kw={"wspace": 0.12})[0]
    for axes, field in zip(panels, fields, strict=True):
        _draw_curve(axes, frame.filter(pl.col("field") == field))
        axes.set_xlabel(symbols.get(field, field))
    handles = [line for axes in (drawn.axes[0], drawn.axes[-1]) for line in axes.get_legend_handles_labels()[0]]
    drawn.legend(handles=handles, loc="outside upper center", ncols=len(handles), handlelength=2.6)
    return drawn


def _draw_curve(left: Axes, frame: pl.DataFrame) -> None:
    """One field: NDCG@10 on the left axis, Recall@10 on the right one."""
    from results.figures.drawing.looks import BLUE, GREY, SMALL, VERMILLION, dark

    settings = frame["setting"].unique().sort().to_list()
    places = places_of(settings)
    right = left.twinx()
    right.grid(visible=False)
    right.spines["right"].set_visible(True)
    looks = (("NDCG@10", left, BLUE, "o", "-"), ("Recall@10", right, VERMILLION, "s", (0, (4, 2))))
    for metric, axes, color, marker, line in looks:
        shown = with_intervals(frame.filter(pl.col("metric") == metric))
        x = np.array([places[setting] for setting in shown["setting"]])
        y = shown["mean"].to_numpy()
        start = int(settings[0] == 0)  # the line does not bridge the break
        face = color if axes is left else "none"  # so that neither hides the other where they meet
        axes.plot(x[start:], y[start:], marker, color=color, linestyle=line, markerfacecolor=face, label=metric)
        axes.plot(x[:start], y[:start], marker, color=color, markerfacecolor=face)
        shift = 0.012 * (x[-1] - x[0]) * (1 if axes is left else -1)  # so that neither line hides the other
        axes.vlines(x + shift, shown["low"], shown["high"], color=color, linewidth=0.8)
        axes.set_ylabel(f"Validation {metric}", color=dark(color))
        axes.set_ylim(0, 1.15 * max(shown["high"].to_list()))
    for setting in frame.filter("is_default")["setting"].unique():
        left.axvline(places[setting], color=GREY, linestyle=":", linewidth=1.0, zorder=1)
    left.set_xticks(list(places.values()), [_spelled(setting) for setting in settings], rotation=45)
    if settings[0] == 0 and len(settings) > 1:
        middle = (places[0.0] + places[settings[1]]) / 2
        left.text(
            middle, 0, "//", transform=left.get_xaxis_transform(), ha="center", va="center", fontsize=SMALL + 1,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
        )  # fmt: skip


def with_intervals(frame: pl.DataFrame) -> pl.DataFrame:
    """Of one metric's rows: mean, low and high by setting.

    Of several seeds the least and the greatest, of one its 95 % interval over users, where that is known.
    """
    value, reach = pl.col("value"), NORMAL_95 * pl.col("error").fill_null(0.0)
    is_one = value.len() == 1
    return (
        frame.group_by("setting")
        .agg(
            value.mean().alias("mean"),
            pl.when(is_one).then((value - reach).min()).otherwise(value.min()).clip(0.0).alias("low"),
            pl.when(is_one).then((value + reach).max()).otherwise(value.max()).alias("high"),
        )
        .sort("setting")
    )


def places_of(settings: Sequence[float]) -> dict[float, float]:
    """Where each setting stands on a logarithmic axis, in decades; 0 half a decade before the least other one."""
    logarithms = {setting: math.log10(setting) for setting in settings if setting > 0}
    zero = min(logarithms.values(), default=0.0) - 0.5
    return {setting: logarithms.get(setting, zero) for setting in settings}


def sweep_figure(study: StudySummary) -> Figure:
    """How a search went: each trial's score, the best so far, and what the fields mattered.

    `UsageError` for a study of which no trial has a score.
    """
    frame = search_frame(study)
    if frame["value"].null_count() == len(frame):
        raise UsageError(f"study '{study.name}' has no trial with a score yet; go on with it: harness sweep")
    sweep, counts = study.sweep, study.counts
    fields = frame["field"].is_not_null().sum()
    told = (
        f"Search for {method_named(sweep.method).title} on {sweep.dataset}, preset {sweep.preset}, seed {sweep.seed}: "
        f"NDCG@10 on the validation items of {_count(counts['complete'], 'complete trial')} (circles) and of "
        f"{_count(counts['pruned'], 'pruned trial')} when they were given up (crosses); line: best so far; ticks on "
        f"the axis: failed trials. Scores start at 0. Sampler {sweep.sampler}, pruner {sweep.pruner}."
    )
    lines = " Vertical lines: 95 % intervals over users." * bool(frame["error"].count())
    bars = f" Bars: each field's share of what decides the score, by PED-ANOVA over {counts['complete']} trials."
    return Figure(f"sweep-{study.name}", told + lines + bars * bool(fields), frame, draw_search)


def search_frame(study: StudySummary) -> pl.DataFrame:
    """A row per trial that ended, then a row per field whose importance can be told (`SEARCH_SCHEMA`)."""
    rows: list[tuple[object, ...]] = []
    best = -math.inf
    for trial in sorted(study.trials, key=lambda trial: trial.number):
        state = state_of(trial)
        if state not in ("complete", "pruned", "failed"):
            continue
        if state == "complete" and trial.value is not None:
            best = max(best, trial.value)
        value = trial.value if state != "failed" else None
        error = trial.user_attrs.get(ERRORS, [None])[0] if state == "complete" else None
        rows.append((trial.number, state, value, error, best if math.isfinite(best) else None, None, None))
    rows += [(None, None, None, None, None, name, share) for name, share in importances(study).items()]
    return pl.DataFrame(rows, schema=SEARCH_SCHEMA, orient="row", strict=False)


def draw_search(frame: pl.DataFrame) -> Picture:
    """The trials on the left; bars of importance on the right, where they can be told."""
    from results.figures.drawing.looks import BLUE, COLUMN, FULL, GREY, VERMILLION, picture

    trials = frame.filter(pl.col("trial").is_not_null())
    fields = frame.filter(pl.col("field").is_not_null()).sort("importance")
    drawn = picture(COLUMN if fields.is_empty() else FULL, 2.4)
    panels = drawn.subplots(1, 1 if fields.is_empty() else 2, squeeze=False)[0]
    axes = panels[0]
    axes.step(trials["trial"], trials["best"], where="post", color=GREY, linewidth=1.0, zorder=2)
    for state, marker, color in (("complete", "o", BLUE), ("pruned", "x", VERMILLION)):
        part = trials.filter((pl.col("state") == state) & pl.col("value").is_not_null())
        axes.plot(part["trial"], part["value"], marker, color=color, markersize=4)
    sure = trials.filter(pl.col("error").is_not_null())
    reach = NORMAL_95 * sure["error"]
    axes.vlines(sure["trial"], sure["value"] - reach, sure["value"] + reach, color=BLUE, linewidth=0.6)
    axes.set_ylim(0, None)
    failed = trials.filter(pl.col("state") == "failed")["trial"]
    axes.plot(failed, np.zeros(len(failed)), "|", color="black", transform=axes.get_xaxis_transform(), markersize=7)
    axes.set_xlabel("Trial")
    axes.set_ylabel("Validation NDCG@10")
    axes.xaxis.get_major_locator().set_params(integer=True)
    if not fields.is_empty():
        panels[1].barh(fields["field"], fields["importance"], color=BLUE, height=0.6)
        panels[1].set_xlabel("Importance")
        panels[1].grid(axis="y", visible=False)
        panels[1].tick_params(axis="y", length=0)
    return drawn


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _spelled(setting: float) -> str:
    """A setting as an axis has it: 0, 3e-4."""
    if setting == 0:
        return "0"
    exponent = math.floor(math.log10(setting) + 1e-9)
    return f"{setting / 10**exponent:.3g}e{exponent}".replace("-", "−")


def _last_end(study: StudySummary) -> float:
    return max((trial.datetime_complete.timestamp() for trial in study.trials if trial.datetime_complete), default=0.0)
