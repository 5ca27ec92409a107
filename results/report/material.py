"""What a report is made from: the runs of one data set, the tables of them, and their figures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import polars as pl

from results.figures.ablation import ablation_figure
from results.figures.cost import cost_figure
from results.figures.curves import curves_figure
from results.figures.rendering import Figure
from results.figures.tokenizer import tokenizer_figure
from results.figures.unseen import unseen_figure
from results.published.paper import PAPER_DATASETS
from results.report.pictures import made
from results.store.find import RunFilter, find_unfinished
from results.store.runs import CASES, Run
from results.store.selection import Filters, RowRuns, select_runs
from results.tables.content import Table
from results.tables.performance import View, ablation_table, overall_table
from results.tables.slices import SLICINGS, Slicing

Pretraining = Callable[[Run], pl.DataFrame | None]

SLICED_COLUMNS = (("Recall", 10), ("NDCG", 10))


@dataclass(frozen=True)
class Board:
    """A leaderboard: the table with intervals, the same with the paper's values, and the runs of its rows."""

    table: Table
    against_paper: Table | None
    groups: Mapping[str, RowRuns]  # row label → runs
    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class Material:
    """Everything that a report reads from the store."""

    dataset: str
    groups: tuple[RowRuns, ...]
    overall: Board | None
    ablations: tuple[Board, ...]
    slices: tuple[Table, ...]  # the overall table, cut in several ways
    curves: Mapping[str, Figure]  # title of a method → how it was trained; the proposed method first
    codes: Mapping[str, Figure]  # title of a method → its tokenizer's codes; the proposed method first
    unseen_users: tuple[Figure, ...]
    num_unfinished: int  # runs that are not counted
    paper_dataset: str | None  # the paper's data set that the numbers are held against

    @cached_property
    def runs(self) -> list[Run]:
        """All runs, in the order of the boards."""
        return [run for group in self.groups for run in group.runs]

    @property
    def is_synthetic(self) -> bool:
        """Whether the data are made up."""
        return self.groups[0].record.synthetic


def gather(
    runs_dir: Path,
    dataset: str,
    filters: Filters | None = None,
    *,
    paper_dataset: str | None = None,
    pretraining: Pretraining = lambda _: None,
) -> Material:
    """The material of a data set's runs; `ResultsError` as in `select_runs`.

    `paper_dataset` names the paper's data set to compare with; without it, it is the one whose name ours begins with.
    `pretraining` gives the history of the stages that a run stands on, which the store does not hold.
    """
    filters = filters or Filters()
    selected = select_runs(runs_dir, dataset, filters).rows
    name = selected[0].record.dataset
    namesakes = (theirs for ours, theirs in PAPER_DATASETS.items() if name.startswith(ours))
    reference = paper_dataset or next(namesakes, None)
    full = [row for row in selected if row.record.variant == "full"]
    overall, slices = None, []
    if full:
        make = partial(overall_table, runs_dir, dataset, filters)
        cost = made(partial(cost_figure, runs_dir, dataset, filters))
        overall = _board(make, {row.label: row for row in full}, reference, cost)
        cuts = [slicing for slicing in SLICINGS.values() if _cuts(slicing, full)]
        slices = [make(View(columns=SLICED_COLUMNS, slicing=cut)) for cut in cuts]
    boards = []
    for method in dict.fromkeys(row.record.method for row in selected):
        rows = [row for row in selected if row.record.method == method]
        if len({row.record.variant for row in rows}) > 1:
            make = partial(ablation_table, runs_dir, dataset, method, filters)
            forest = made(partial(ablation_figure, runs_dir, dataset, method, filters))
            boards.append(_board(make, {row.short_label: row for row in rows}, reference, forest))
    return Material(
        dataset=name,
        groups=(*full, *(row for row in selected if row.record.variant != "full")),
        overall=overall,
        ablations=tuple(boards),
        slices=tuple(slices),
        curves=_by_method(curves_figure, runs_dir, dataset, filters, full, pretraining),
        codes=_by_method(tokenizer_figure, runs_dir, dataset, filters, full, pretraining),
        unseen_users=made(partial(unseen_figure, runs_dir, dataset, replace(filters, configs=()))),
        num_unfinished=len(find_unfinished(runs_dir, RunFilter(dataset=dataset))),
        paper_dataset=reference,
    )


def _board(
    make: Callable[[View], Table], groups: Mapping[str, RowRuns], reference: str | None, figures: Iterable[Figure]
) -> Board:
    against_paper = make(View(paper_dataset=reference)) if reference else None
    return Board(make(View(intervals=True)), against_paper, groups, tuple(figures))


def _by_method(
    make: Callable[..., Figure],
    runs_dir: Path,
    dataset: str,
    filters: Filters,
    rows: Iterable[RowRuns],
    pretraining: Pretraining,
) -> dict[str, Figure]:
    """A figure of each row that gives one, the proposed method's first."""
    figures = {}
    for row in sorted(rows, key=lambda row: not row.record.is_proposed):
        chosen = replace(filters, configs=(row.record.config_digest,))
        for figure in made(partial(make, runs_dir, dataset, row.record.method, chosen, pretraining(row.runs[0]))):
            figures[row.label] = figure
    return figures


def _cuts(slicing: Slicing, rows: Iterable[RowRuns]) -> bool:
    """Whether the slicing parts the users at all; not where a run was made before runs kept what it needs."""
    runs = [run for row in rows for run in row.runs]
    if not all((run.folder / CASES).exists() for run in runs):
        return False
    headings = {label for run in runs for label in slicing.labels(run.cases()) if label is not None}
    return len(headings) > 1
