"""Runs on a terminal: the list of runs, and one run in full."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.syntax import Syntax
from rich.table import Table as Grid
from rich.text import Text

from results.statistics.inference import bootstrap_interval, fixed_random
from results.statistics.metrics.registry import rank_metrics, user_values
from results.store.contract import DEFAULTS
from results.store.runs import Run
from results.store.schema import RunRecord
from results.store.selection import dataset_label
from results.tables.content import DECIMALS
from results.terminal.grids import bare_grid
from results.terminal.quantities import duration

SPARKS = "▁▂▃▄▅▆▇█"
SPARK_WIDTH = 32
SHOWN_KS = (5, 10)


def run_panel(run: Run) -> RenderableType:
    """One run in full: scores, curves, tokenizer health, time, memory, assumptions, config, environment."""
    record = run.record
    sections = [
        ("Scores", _score_grid(run)),
        ("Curves", _curve_grid(run.history())),
        ("Health", _lines(health_lines(record.health))),
        ("Cost", _lines(_cost_lines(record))),
        ("Judged by", _lines([("contract", record.contract_digest), *_plain({**DEFAULTS, **record.contract})])),
        ("Assumptions", Group(*[Text(f"- {text}") for text in record.assumptions]) if record.assumptions else None),
        ("Environment", _lines(_plain(run.environment()))),
        ("Config", Syntax(run.config_text().strip(), "toml", theme="ansi_dark", background_color="default")),
    ]
    body: list[RenderableType] = []
    for heading, content in sections:
        if content is not None:
            body.extend([Text(heading, "bold"), content, Text()])
    variant = record.variant_title if record.variant != "full" else "full"
    title = f"{record.title}, {variant}, on {dataset_label(record)}"
    subtitle = f"config {record.config_digest}, seed {record.seed}, preset {record.preset}, recipe {record.recipe}"
    return Panel(Group(*body[:-1]), title=Text(title, "bold"), subtitle=Text(subtitle, "dim"), box=box.ROUNDED)


def sparkline(values: Sequence[float], width: int = SPARK_WIDTH) -> str:
    """The values as bars from their least (▁) to their greatest (█), thinned to `width` by means of equal slices."""
    finite = np.array([value for value in values if math.isfinite(value)])
    if len(finite) == 0:
        return ""
    means = np.array([part.mean() for part in np.array_split(finite, min(width, len(finite)))])
    span = means.max() - means.min()
    heights = np.zeros(len(means)) if span == 0 else (means - means.min()) / span
    return "".join(SPARKS[index] for index in np.rint(heights * (len(SPARKS) - 1)).astype(int))


def health_lines(health: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a run's health says, by name.

    Known keys: `used_codes` and `perplexity` (lists, one entry per level), `codebook_size`, `collision_rate`,
    `colliding_items` and `invalid_share` (shares of 1), `largest_group` (items that share one code prefix). Others are
    shown as they are.
    """
    left = dict(health)
    size = left.pop("codebook_size", None)
    of = f" of {size}" if size is not None else ""
    lines = []
    if (used := left.pop("used_codes", None)) is not None:
        lines.append(("codes used, per level", ", ".join(map(str, used)) + of))
    if (perplexity := left.pop("perplexity", None)) is not None:
        lines.append(("perplexity, per level", ", ".join(f"{value:.1f}" for value in perplexity)))
    if (collisions := left.pop("collision_rate", None)) is not None:
        lines.append(("collision rate, items beyond tuples", f"{100 * collisions:.2f} %"))
    if (colliding := left.pop("colliding_items", None)) is not None:
        lines.append(("collision rate, items that share", f"{100 * colliding:.2f} %"))
    if (largest := left.pop("largest_group", None)) is not None:
        lines.append(("largest group", f"{largest} items"))
    if (invalid := left.pop("invalid_share", None)) is not None:
        lines.append(("invalid sequences", f"{100 * invalid:.2f} %"))
    return lines + _plain(left)


def _score_grid(run: Run) -> RenderableType:
    """Each metric with its bootstrap interval over users."""
    ranks_U, owners_U = run.ranks(["user", "rank"]).sort("user")["rank"].to_numpy(), run.owners()
    grid = bare_grid()
    for metric in rank_metrics():
        for k in SHOWN_KS:
            if k <= run.list_length:
                values_U = user_values(ranks_U, metric, k, run.list_length)
                mean, low, high = bootstrap_interval(values_U, fixed_random(), owners_U)
                spread = f"[{low:.{DECIMALS}f}, {high:.{DECIMALS}f}]"
                grid.add_row(Text(f"{metric}@{k}", "dim"), Text(f"{mean:.{DECIMALS}f}", "bold"), Text(spread))
    of_lists = run.metrics().filter(~pl.col("metric").is_in(rank_metrics()), pl.col("k").is_in(SHOWN_KS))
    for metric, k, value in of_lists.select("metric", "k", "value").iter_rows():
        grid.add_row(Text(f"{metric}@{k}", "dim"), Text(f"{value:.{DECIMALS}f}", "bold"), Text("of all lists"))
    return Group(grid, Text(f"[low, high]: 95 %, bootstrap over users; {run.population}", "dim"))


def _curve_grid(history: pl.DataFrame) -> RenderableType | None:
    """For each stage the total loss of each phase and the validation score, first to last value."""
    if history.is_empty():
        return None
    grid = bare_grid()
    for stage in history["stage"].unique(maintain_order=True):
        rows = history.filter(pl.col("stage") == stage)
        losses = rows.filter(pl.col("quantity") == "loss/total")
        for phase in losses["phase"].unique(maintain_order=True):
            curve = losses.filter(pl.col("phase") == phase)["value"].to_list()
            _add_curve(grid, f"{stage}, {phase}: loss", curve)
        scores = rows.filter(pl.col("quantity") == "score")
        if not scores.is_empty():
            best = int(scores.row(scores["value"].arg_max() or 0, named=True)["epoch"])
            _add_curve(grid, f"{stage}: validation NDCG@10", scores["value"].to_list(), f"best at epoch {best}")
    return grid


def _add_curve(grid: Grid, label: str, values: Sequence[float], remark: str = "") -> None:
    ends = f"{values[0]:.{DECIMALS}f} → {values[-1]:.{DECIMALS}f}"
    grid.add_row(Text(label, "dim"), Text(sparkline(values), "cyan"), Text(ends), Text(remark, "dim"))


def _cost_lines(record: RunRecord) -> list[tuple[str, str]]:
    threads = f"{record.threads} thread{'s' * (record.threads != 1)}"
    lines = [(stage, duration(seconds)) for stage, seconds in record.seconds.items()]
    return [
        *lines,
        ("total", duration(sum(record.seconds.values()))),
        ("peak memory", f"{record.peak_memory_mb:,.0f} MB"),
        ("parameters", f"{record.num_parameters:,}"),
        ("device", f"{record.device}, {threads}"),
        ("trials before", str(record.trials)),
        ("made", record.created),
    ]


def _plain(content: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(name, _shown(value)) for name, value in content.items()]


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_shown(inner)}" for name, inner in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _lines(pairs: Iterable[tuple[str, str]]) -> RenderableType | None:
    """Names and values in two aligned columns; None where there is none."""
    grid = bare_grid()
    for name, value in pairs:
        grid.add_row(Text(name, "dim"), Text(value))
    return grid if grid.row_count else None
