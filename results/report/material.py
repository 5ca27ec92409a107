"""What a report is made from: the runs of one data set, the tables of them, and each row's values per user.

Shape legend: S seeds, U users.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import polars as pl

from results.figures.ablation import ablation_figure
from results.figures.cost import cost_figure
from results.figures.curves import curves_figure
from results.figures.figure import Figure
from results.figures.tokenizer import tokenizer_figure
from results.figures.unseen import unseen_figure
from results.published import paper
from results.report.pictures import made
from results.statistics.metrics import user_values
from results.store.runs import CASES, Run, find_unfinished
from results.store.selection import CONFIG_WORDS, Filters, Group, rank_matrix, select_runs
from results.tables.paper import View, ablation_table, overall_table
from results.tables.slices import SLICINGS, Slicing
from results.tables.table import Table

Pretraining = Callable[[Run], pl.DataFrame | None]

SLICED_COLUMNS = (("Recall", 10), ("NDCG", 10))


@dataclass(frozen=True)
class Board:
    """A leaderboard: the table with intervals, the same with the paper's values, and the runs of its rows."""

    table: Table
    against_paper: Table | None
    groups: Mapping[str, Group]  # row label → runs
    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class Material:
    """Everything that a report reads from the store."""

    dataset: str
    groups: tuple[Group, ...]
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
    selected = select_runs(runs_dir, dataset, filters).groups
    reference = paper_dataset or _paper_namesake(selected[0].record.dataset)
    full = [group for group in selected if group.record.variant == "full"]
    ablated = [
        method for method in _methods(selected) if len({g.record.variant for g in _of_method(selected, method)}) > 1
    ]
    overall, slices = None, []
    if full:
        chosen = _among(filters, full)
        make = partial(overall_table, runs_dir, dataset, chosen)
        labelled = {group.method_label: group for group in full}
        overall = _board(make, labelled, reference, made(partial(cost_figure, runs_dir, dataset, chosen)))
        cuts = [slicing for slicing in SLICINGS.values() if _cuts(slicing, full)]
        slices = [make(View(columns=SLICED_COLUMNS, slicing=cut)) for cut in cuts]
    boards = []
    for method in ablated:
        groups = _of_method(selected, method)
        chosen = _among(filters, groups)
        make = partial(ablation_table, runs_dir, dataset, method, chosen)
        figures = made(partial(ablation_figure, runs_dir, dataset, method, chosen))
        boards.append(_board(make, {group.variant_label: group for group in groups}, reference, figures))
    in_order = _in_order(selected, overall, boards)
    return Material(
        dataset=dataset,
        groups=in_order,
        overall=overall,
        ablations=tuple(boards),
        slices=tuple(slices),
        curves=_by_method(curves_figure, runs_dir, dataset, filters, in_order, pretraining),
        codes=_by_method(tokenizer_figure, runs_dir, dataset, filters, in_order, pretraining),
        unseen_users=made(partial(unseen_figure, runs_dir, dataset, replace(filters, configs=()))),
        num_unfinished=len(find_unfinished(runs_dir, dataset=dataset)),
        paper_dataset=reference,
    )


def _board(
    make: Callable[[View], Table], groups: Mapping[str, Group], reference: str | None, figures: Iterable[Figure]
) -> Board:
    against_paper = make(View(paper_dataset=reference)) if reference else None
    return Board(make(View(intervals=True)), against_paper, groups, tuple(figures))


def values_of(group: Group, metric: str, k: int) -> np.ndarray:
    """(S, U) values of a metric, users ascending."""
    return user_values(rank_matrix(group), metric, k, group.runs[0].list_length)


def _by_method(
    make: Callable[..., Figure],
    runs_dir: Path,
    dataset: str,
    filters: Filters,
    groups: Iterable[Group],
    pretraining: Pretraining,
) -> dict[str, Figure]:
    """A figure of each method that gives one, the proposed method's first."""
    figures = {}
    unchanged = [group for group in groups if group.record.variant == "full"]
    for group in sorted(unchanged, key=lambda group: not group.record.is_proposed):
        before = pretraining(group.runs[0])
        method, chosen = group.record.method, _among(filters, [group])
        for figure in made(partial(make, runs_dir, dataset, method, chosen, before)):
            figures[group.record.title] = figure
    return figures


def _among(filters: Filters, groups: Iterable[Group]) -> Filters:
    """The filters with the configs that are among these groups: others would be unknown to a table of them alone."""
    digests = [group.record.config_digest for group in groups]
    configs = [
        wanted
        for wanted in filters.configs
        if wanted in CONFIG_WORDS or any(digest.startswith(wanted) for digest in digests)
    ]
    return replace(filters, configs=tuple(configs))


def _cuts(slicing: Slicing, groups: Iterable[Group]) -> bool:
    """Whether the slicing parts the users at all; not where a run was made before runs kept what it needs."""
    runs = [run for group in groups for run in group.runs]
    if not all((run.folder / CASES).exists() for run in runs):
        return False
    headings = {label for run in runs for label in slicing.labels(run.cases()) if label is not None}
    return len(headings) > 1


def _paper_namesake(dataset: str) -> str | None:
    found = [theirs for ours, theirs in paper.PAPER_DATASETS.items() if dataset.startswith(ours)]
    return found[0] if found else None


def _methods(groups: Iterable[Group]) -> list[str]:
    return list(dict.fromkeys(group.record.method for group in groups))


def _of_method(groups: Iterable[Group], method: str) -> list[Group]:
    return [group for group in groups if group.record.method == method]


def _in_order(selected: Collection[Group], overall: Board | None, ablations: Collection[Board]) -> tuple[Group, ...]:
    """The groups as the boards list them, each once, then the others."""
    listed = [
        board.groups[row.label]
        for board in ([overall] if overall else []) + list(ablations)
        for row in board.table.rows
        if row.label in board.groups
    ]
    return tuple({group.place: group for group in [*listed, *selected]}.values())
