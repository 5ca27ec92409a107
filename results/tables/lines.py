"""What stands in the rows of a leaderboard: the values of each method by user, for all users or in slices.

Shape legend: S seeds, U users.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from results.errors import ResultsError
from results.statistics.inference import bootstrap_interval, fixed_random, std_over_seeds
from results.store.contract import told
from results.store.selection import RowRuns
from results.tables.content import DECIMALS, TableCell, TableRow
from results.tables.slices import Slicing

MetricColumn = tuple[str, int]  # metric, k

MIN_TESTED = 30  # users of a slice that is tested
CLUSTERED = "Values are means over cases; tests and intervals take a user's cases together, not for independent."


@dataclass(frozen=True)
class Line:
    """One method or variant: its runs, and its per-user values by column."""

    runs: RowRuns
    values: tuple[np.ndarray, ...]  # one (S, U) matrix per column; nan: the seed's codes put the user in another slice
    owners: np.ndarray | None = None  # (U,) the user of each case; None: each case is of another user

    @property
    def label(self) -> str:
        """The heading of its row."""
        return self.runs.short_label


@dataclass(frozen=True)
class Part:
    """The lines that stand under one heading: all users, or those of a slice."""

    heading: str
    lines: tuple[Line, ...]

    @property
    def num_users(self) -> int:
        """Users of a slice that is the same for all lines."""
        owners = self.lines[0].owners
        return self.lines[0].values[0].shape[1] if owners is None else len(np.unique(owners))


def judged(row: RowRuns) -> list[str]:
    """The foot of a table: who was judged, and by which rules."""
    record = row.record
    foot = f"{row.population}; contract {record.contract_digest}: {told(record.contract, record.split)}."
    return [foot, CLUSTERED] if record.num_users else [foot]


def line_of(row: RowRuns, columns: Sequence[MetricColumn]) -> Line:
    """A row's line."""
    return Line(row, tuple(row.values(metric, k) for metric, k in columns), row.owners)


def parts_of(lines: Sequence[Line], slicing: Slicing | None) -> tuple[list[Part], list[str]]:
    """The parts of a table, and what must be said of slices and lines that are left out."""
    if slicing is None:
        return [Part("", tuple(lines))], []
    parts, notes = _code_parts(lines, slicing) if slicing.by_codes else _case_parts(lines, slicing)
    empty = [heading for heading in slicing.headings if heading not in {part.heading for part in parts}]
    notes += [f"Without users, and so left out: {', '.join(empty)}."] if empty else []
    small = [part.heading for part in parts if not slicing.by_codes and part.num_users < MIN_TESTED]
    notes += [f"Fewer than {MIN_TESTED} users, and so not tested: {', '.join(small)}."] if small else []
    return parts, notes


def _case_parts(lines: Sequence[Line], slicing: Slicing) -> tuple[list[Part], list[str]]:
    """A part for each slice that has users; the cases of one run are those of all, since all have the same data."""
    labels_U = slicing.labels(lines[0].runs.runs[0].cases().sort("user")).to_numpy()
    members = {heading: labels_U == heading for heading in slicing.headings}
    parts = [
        Part(heading, tuple(_cut(line, member_U) for line in lines))
        for heading, member_U in members.items()
        if member_U.any()
    ]
    return parts, []


def _cut(line: Line, member_U: np.ndarray) -> Line:
    """The line, of the cases of a slice."""
    owners = None if line.owners is None else line.owners[member_U]
    return replace(line, values=tuple(values_SU[:, member_U] for values_SU in line.values), owners=owners)


def _code_parts(lines: Sequence[Line], slicing: Slicing) -> tuple[list[Part], list[str]]:
    """A part for each slice that has users in some line's codes; lines without codes are left out."""
    labels = [
        np.stack([slicing.labels(run.cases().sort("user")).to_numpy() for run in line.runs.runs]) for line in lines
    ]
    with_codes = [(line, labels_SU) for line, labels_SU in zip(lines, labels, strict=True) if _has_labels(labels_SU)]
    if not with_codes:
        raise ResultsError(
            f"slice '{slicing.name}' needs a method with item codes, but none of the table's rows has any"
        )
    parts = []
    for heading in slicing.headings:
        members = [(line, labels_SU == heading) for line, labels_SU in with_codes]
        if any(member_SU.any() for _, member_SU in members):
            cut = [
                replace(line, values=tuple(np.where(member_SU, v, np.nan) for v in line.values))
                for line, member_SU in members
            ]
            parts.append(Part(heading, tuple(cut)))
    without = [line.label for line, labels_SU in zip(lines, labels, strict=True) if not _has_labels(labels_SU)]
    notes = ["Each method and seed has codes, and so users in a slice, of its own: no row is tested or marked."]
    notes += [f"Without codes, and so left out: {', '.join(without)}."] if without else []
    return parts, notes


def _has_labels(labels_SU: np.ndarray) -> bool:
    return any(label is not None for label in labels_SU.flat)


def part_rows(part: Part, slicing: Slicing | None, intervals: bool) -> list[TableRow]:
    """A part's rows, the best and second marked where the lines have the same users."""
    by_codes = slicing is not None and slicing.by_codes
    rows = [
        TableRow(
            line.label, tuple(_of_config(line, _cell(values_SU, intervals, line.owners)) for values_SU in line.values)
        )
        for line in part.lines
    ]
    return rows if by_codes else _mark(rows)


def list_cells(line: Line, columns: Sequence[MetricColumn]) -> tuple[TableCell, ...]:
    """The line's metrics of whole lists: mean and standard deviation over seeds; no user has a value of them."""
    cells = []
    for metric, k in columns:
        values = [run.metric(metric, k) for run in line.runs.runs]
        known_S = np.array([value for value in values if value is not None])
        cell = TableCell(value=None)
        if len(known_S) == len(values):
            cell = TableCell(value=float(known_S.mean()), std=std_over_seeds(known_S[:, None]), seeds=len(known_S))
        cells.append(_of_config(line, cell))
    return tuple(cells)


def _of_config(line: Line, cell: TableCell) -> TableCell:
    return replace(cell, config=line.runs.record.config_digest)


def grouped(rows: Sequence[TableRow], part: Part) -> list[TableRow]:
    """The rows, a line before each but the first whose method is of another kind than the row's before it.

    The kinds are those of the paper's table: no training, item-scoring, generative, proposed.
    """
    records = [line.runs.record for line in part.lines]
    kinds = ["proposed" if record.is_proposed else record.family for record in records]
    opens = [False, *(kind != before for before, kind in pairwise(kinds))]
    return [replace(row, apart=opened) for row, opened in zip(rows, opens, strict=True)]


def headed(row: TableRow, part: Part, slicing: Slicing | None) -> TableRow:
    """The row under its part's heading, in a sliced table with its number of users in front."""
    if slicing is None:
        return row
    line = next((line for line in part.lines if line.label == row.label), None)
    users = None if line is None else float((~np.isnan(line.values[0])).sum(axis=1).mean())
    return replace(row, cells=(TableCell(value=users), *row.cells), section=part.heading)


def _cell(values_SU: np.ndarray, intervals: bool, owners_U: np.ndarray | None) -> TableCell:
    """Mean over seeds and users, the standard deviation of the seeds' means, and the interval if asked for."""
    counted_SU = ~np.isnan(values_SU)
    if not counted_SU.any(axis=1).all():
        return TableCell(value=None)
    means_S = np.nanmean(values_SU, axis=1)
    cell = TableCell(value=float(means_S.mean()), std=std_over_seeds(means_S[:, None]), seeds=len(means_S))
    users_U = counted_SU.all(axis=0)
    if not intervals or not np.array_equal(users_U, counted_SU.any(axis=0)):
        return cell
    owners_U = None if owners_U is None else owners_U[users_U]
    _, low, high = bootstrap_interval(values_SU[:, users_U], fixed_random(), owners_U)
    return replace(cell, low=low, high=high)


def _mark(rows: Sequence[TableRow]) -> list[TableRow]:
    """The rows with each column's best and second marked; values that print alike share a mark."""
    printed = np.array([[round(cell.value or 0.0, DECIMALS) for cell in row.cells] for row in rows])
    best = printed.max(axis=0)
    below = np.where(printed < best, printed, -np.inf).max(axis=0)
    if len(rows) == 1:
        return list(rows)
    return [
        replace(
            row,
            cells=tuple(
                replace(cell, best=bool(value == top), second=bool(value == next_))
                for cell, value, top, next_ in zip(row.cells, values, best, below, strict=True)
            ),
        )
        for row, values in zip(rows, printed, strict=True)
    ]


def tested_parts(parts: Sequence[Part], slicing: Slicing | None) -> list[tuple[int, tuple[Line, ...]]]:
    """The parts in which lines may be tested against each other, with their index."""
    if slicing is None:
        return [(index, part.lines) for index, part in enumerate(parts)]
    enough = [(index, part) for index, part in enumerate(parts) if not slicing.by_codes]
    return [(index, part.lines) for index, part in enough if part.num_users >= MIN_TESTED]
