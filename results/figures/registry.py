"""All figures that are made from stored runs alone, by name.

A module of this folder, or an entry point of the group `harness.figures`, offers one as MAKER.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from results.errors import ResultsError
from results.figures.rendering import Figure
from results.plugins import offered
from results.store.runs import Run
from results.store.selection import Filters, select_runs

ENTRY_POINTS = "harness.figures"


@dataclass(frozen=True)
class FigureRequest:
    """What a figure is asked to show."""

    runs: Path  # the runs folder
    dataset: str
    method: str  # of figures of one method
    filters: Filters
    pretraining_of: Callable[[Run], pl.DataFrame | None]  # history of the stages that a run's fit stands on, if known
    prepared_of: Callable[[Run], Path]  # folder of a run's prepared data; `HarnessError` where it is gone

    def pretraining(self) -> pl.DataFrame | None:
        """That of the method's first run."""
        rows = select_runs(self.runs, self.dataset, self.filters, method=self.method, variant="full").rows
        return self.pretraining_of(rows[0].runs[0])


@dataclass(frozen=True)
class FigureMaker:
    """A figure that can be asked for by name; `make` raises `ResultsError` where the runs do not give it."""

    name: str
    needs: str  # what it is made from: "runs of a method with codes"
    make: Callable[[FigureRequest], Sequence[Figure]]


def figure_makers() -> dict[str, FigureMaker]:
    """Every maker by name."""
    makers = {}
    for maker in offered("results.figures", "MAKER", ENTRY_POINTS):
        if not isinstance(maker, FigureMaker):
            raise ResultsError(f"{ENTRY_POINTS} must give FigureMaker values, but got {maker!r}")
        makers[maker.name] = maker
    return makers
