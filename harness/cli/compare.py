"""`harness compare`: one method against another one, or against all; or the order of all under several splits."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli import options
from harness.cli.options import Json, RunsDir, print_json, print_view, takes_groups
from harness.cli.tables import Choice, DatasetFilter, FormatName, print_table
from harness.errors import UsageError

if TYPE_CHECKING:
    from results.statistics.comparison import Comparison, MetricComparison
    from results.store.selection import Filters

EXAMPLES = (
    "Examples: [bold]harness compare etegrec tiger[/] · [bold]harness compare etegrec etegrec/wo-sia --json[/] · "
    "[bold]harness compare etegrec --metric NDCG --k 10[/] · "
    "[bold]harness compare --splits --dataset ml-100k --out orders.csv[/]"
)


@takes_groups
def compare(
    *,
    first: Annotated[
        str | None,
        typer.Argument(
            metavar="[A]", help="A method, method/variant, or a part of a run's path, as harness show takes it."
        ),
    ] = None,
    second: Annotated[
        str | None,
        typer.Argument(metavar="[B]", help="What to compare it with (default: all that stand in a table with it)."),
    ] = None,
    splits: Annotated[
        bool,
        typer.Option(
            "--splits",
            help="Instead: the order of all methods under each split of the data set (--dataset NAME, or A,B), by one "
            "metric (default NDCG@10).",
        ),
    ] = False,
    dataset: DatasetFilter = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(help="Recall, NDCG, MRR or a plug-in's (default: Recall, NDCG). Repeatable.", metavar="M"),
    ] = None,
    k: Annotated[
        list[int] | None, typer.Option(min=1, help="Length of the list (default 5 and 10). Repeatable.")
    ] = None,
    choice: Choice,
    format: Annotated[
        FormatName | None,
        typer.Option(help="Of --splits: how to print (default: as --out ends, else rich).", show_default=False),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Of --splits: file to write: .txt, .md, .tex, .csv, .json, .html.", metavar="FILE"),
    ] = None,
    figure: Annotated[
        Path | None,
        typer.Option(help="Of --splits: also draw the ranks, as harness figure splits does.", metavar="DIR"),
    ] = None,
    json: Json = False,
    runs_dir: RunsDir = options.RUNS,
) -> None:
    """Say whether one method is better than another, by how much, how sure that is, and what would settle it.

    With --splits: how the order of methods moves between splits of one data set.
    """
    from results.statistics.comparison import compare as compared
    from results.terminal.comparison import comparison_view

    filters = choice.filters()
    if splits:
        if first is not None:
            raise UsageError(f"--splits orders all methods, but got '{first}' beside it; leave one of the two out")
        columns = [(_metric(name), length) for name in metric or ["NDCG"] for length in k or [10]]
        _show_splits(runs_dir, dataset, filters, columns, "json" if json else format, out, figure)
        return
    if first is None:
        raise UsageError("harness compare needs a method, such as: harness compare etegrec; or --splits")
    if given := [name for name, value in (("--format", format), ("--out", out), ("--figure", figure)) if value]:
        raise UsageError(f"{given[0]} goes with --splits, but a comparison of methods has --json alone; leave it out")
    columns = [(_metric(name), length) for name in metric or ("Recall", "NDCG") for length in k or (5, 10)]
    found = compared(runs_dir, first, second, filters, dataset=dataset, columns=list(dict.fromkeys(columns)))
    if json:
        print_json([_content(comparison) for comparison in found])
    else:
        print_view(comparison_view(found))


def _show_splits(
    runs_dir: Path,
    dataset: str | None,
    filters: Filters,
    columns: Sequence[tuple[str, int]],
    format: str | None,
    out: Path | None,
    figure: Path | None,
) -> None:
    """Prints the table of one metric, and draws the figure into a folder if one is given."""
    from results.figures.splits import splits_figure
    from results.statistics.splits import split_orders
    from results.tables.splits import splits_table

    if len(columns) > 1:
        told = ", ".join(f"{metric}@{k}" for metric, k in columns)
        raise UsageError(f"--splits shows the order by one metric, but got {told}; keep one of them")
    found = split_orders(runs_dir, dataset, filters, *columns[0])
    print_table(splits_table(found), format, out)
    if figure is not None:
        for path in splits_figure(found).save(figure):
            print(f"wrote {path}", file=sys.stderr)


def _metric(name: str) -> str:
    """The metric of that name, however its letters are written."""
    from results.statistics.metrics.registry import rank_metrics

    known = {metric.casefold(): metric for metric in rank_metrics()}
    if name.casefold() not in known:
        raise UsageError(f"unknown metric '{name}'; known: {', '.join(known.values())}")
    return known[name.casefold()]


def _content(comparison: Comparison) -> dict[str, Any]:
    """The comparison as plain JSON, named numbers throughout."""
    metrics = [_metric_content(metric) for metric in comparison.metrics]
    verdict = {"primary": comparison.primary.name, "verdict": comparison.verdict}
    return asdict(comparison) | verdict | {"metrics": metrics}


def _metric_content(metric: MetricComparison) -> dict[str, Any]:
    named = {name: getattr(metric, name)._asdict() for name in ("difference", "effect", "p_values", "adjusted")}
    return asdict(metric) | named | {"sign": metric.sign}
