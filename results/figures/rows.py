"""The runs that a figure stands on, as rows: methods of a data set, or variants of a method.

Shape legend: S seeds, U users.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from results.statistics.metrics import user_values
from results.store.selection import Filters, Group, check_one_population, rank_matrix, select_runs

INTERVAL_SEED = 0  # of the bootstrap, so that a figure always shows the same intervals


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


def method_rows(runs_dir: Path, dataset: str, filters: Filters | None, method: str | None = None) -> Rows:
    """Every unchanged method (or the one named), in the order of tables; `ResultsError` as in `select_runs`."""
    selection = select_runs(runs_dir, dataset, filters, method=method, variant="full")
    return Rows(tuple(Row(g.record.method, g.method_label, g) for g in selection.groups), selection.notes)


def variant_rows(runs_dir: Path, dataset: str, method: str, filters: Filters | None) -> Rows:
    """A method and its variants, the full one first; `ResultsError` as in `select_runs`."""
    selection = select_runs(runs_dir, dataset, filters, method=method)
    check_one_population(selection.groups)
    return Rows(tuple(Row(g.record.variant, g.variant_label, g) for g in selection.groups), selection.notes)
