"""The runs that a figure stands on, as rows: methods of a data set, or variants of a method.

Shape legend: S seeds, U users.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from results.statistics.metrics import user_values
from results.store.selection import Group, check_same_cases, rank_matrix, select_runs
from results.tables.paper import METHOD_ORDER, VARIANT_ORDER

INTERVAL_SEED = 0  # of the bootstrap, so that a figure always shows the same intervals


@dataclass(frozen=True)
class Filters:
    """Which runs count, as in `results.store.selection.select_runs`."""

    configs: tuple[str, ...] = ()
    contract: str | None = None
    preset: str | None = None


@dataclass(frozen=True)
class Row:
    """One method or variant and its runs."""

    name: str  # of the method in the registry, or of the variant's folder
    label: str
    group: Group

    def values(self, metric: str, k: int) -> np.ndarray:
        """(S, U) values of a metric, users ascending; `ResultsError` where the lists are shorter than k."""
        return user_values(rank_matrix(self.group), metric, k, self.group.runs[0].list_length)


@dataclass(frozen=True)
class Rows:
    """Rows that may stand in one figure, and what a reader must be told of the choice."""

    rows: tuple[Row, ...]
    notes: tuple[str, ...] = field(default=())

    @property
    def dataset(self) -> str:
        """The data set as a caption names it."""
        record = self.rows[0].group.record
        return f"{record.dataset} (synthetic)" if record.synthetic else record.dataset

    @property
    def seeds(self) -> str:
        """The seeds as a caption names them."""
        counts = sorted({len(row.group.seeds) for row in self.rows})
        least, most = counts[0], counts[-1]
        if most == 1:
            return "one seed each"
        return f"{most} seeds each" if least == most else f"{least} to {most} seeds each"

    @property
    def resampled(self) -> str:
        """What the bootstrap draws."""
        return "users and seeds" if any(len(row.group.seeds) > 1 for row in self.rows) else "users"


def method_rows(runs_dir: Path, dataset: str, filters: Filters, method: str | None = None) -> Rows:
    """Every unchanged method (or the one named), in the paper's order; `ResultsError` as in `select_runs`."""
    selection = select_runs(
        runs_dir,
        dataset,
        method=method,
        variant="full",
        configs=filters.configs,
        contract=filters.contract,
        preset=filters.preset,
    )
    groups = sorted(selection.groups, key=lambda group: place(group.record.method, METHOD_ORDER))
    rows = tuple(Row(group.record.method, group.record.title, group) for group in groups)
    return Rows(rows, selection.notes)


def variant_rows(runs_dir: Path, dataset: str, method: str, filters: Filters) -> Rows:
    """A method and its variants, the full one first; `ResultsError` as in `select_runs`."""
    selection = select_runs(
        runs_dir,
        dataset,
        method=method,
        configs=filters.configs,
        contract=filters.contract,
        preset=filters.preset,
    )
    groups = sorted(selection.groups, key=lambda group: place(group.record.variant, VARIANT_ORDER))
    rows = tuple(Row(group.record.variant, variant_label(group), group) for group in groups)
    check_one_population(rows)
    return Rows(rows, selection.notes)


def check_one_population(rows: Sequence[Row]) -> None:
    """`ResultsError` unless all rows were judged on the same users and targets, which pairing needs."""
    cases = [row.group.runs[0].ranks(["user", "target"]).sort("user") for row in rows]
    for row, other in zip(rows[1:], cases[1:], strict=True):
        check_same_cases(cases[0], other, rows[0].group.runs[0], row.group.runs[0])


def variant_label(group: Group) -> str:
    """ETEGRec, or w/o SIA."""
    record = group.record
    return record.title if record.variant == "full" else record.variant_title


def place(name: str, order: Sequence[str]) -> tuple[int, str]:
    """Sort key: the known names in their order, then the others by name."""
    return (order.index(name) if name in order else len(order), name)
