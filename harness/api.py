"""What the command line does, for notebooks and scripts: `import harness` offers these names.

    >>> import harness
    >>> lab = harness.Workspace()
    >>> data = lab.dataset("demo")
    >>> lab.run(data, ["popularity", "sasrec"], seeds=[0, 1])

Jobs run in processes of their own, so a script must stand under `if __name__ == "__main__":`, as for any use of
multiprocessing; a notebook needs nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from harness.config import Config, merged
from harness.data.dataset import Dataset
from harness.data.open import Source, open_dataset
from harness.data.prepare import describe, load_dataset
from harness.errors import StageError
from harness.experiment.place import Place
from harness.experiment.plan import Settings, configured, make_plan
from harness.experiment.run import run_plan
from harness.interfaces import Contract
from harness.jobs.graph import Observer
from harness.methods import method_named, methods
from results.statistics.comparison import Comparison
from results.statistics.comparison import compare as compare_runs
from results.store.find import RunFilter, find_runs
from results.store.runs import Run
from results.store.schema import METRICS_SCHEMA
from results.store.selection import Filters
from results.tables.content import Table
from results.tables.performance import View, ablation_table, overall_table
from results.tables.render import render

__all__ = ["Contract", "Filters", "Settings", "Source", "View", "Workspace", "as_text", "configure", "list_methods"]

SCHEMA: dict[str, Any] = {
    "name": pl.String,
    "title": pl.String,
    "family": pl.String,
    "groups": pl.List(pl.String),
    "ablations": pl.List(pl.String),
}


def list_methods() -> pl.DataFrame:
    """All methods, in the order of tables: `name`, `title`, `family`, `groups`, and the names of their `ablations`."""
    found = methods().values()
    return pl.DataFrame(
        [(m.name, m.title, m.family, list(m.groups), list(m.ablations)) for m in found], SCHEMA, orient="row"
    )


def configure(method: str, preset: str = "lite", **changes: Any) -> Config:
    """The method's typed config; a change may be a nested dict. `UsageError` for what breaks a rule of the config."""
    return merged(configured(method_named(method), "", Settings(preset=preset)), changes, prefix=f"{method}.")


def as_text(table: Table) -> str:
    """The table with its notes, as `harness table --format text` prints it."""
    return render(table, "text")


@dataclass(frozen=True)
class PreparedData:
    """A data set that is ready to run on."""

    folder: Path

    @property
    def content(self) -> Dataset:
        """Training sequences, validation cases and items: what methods see."""
        return load_dataset(self.folder)

    def describe(self) -> dict[str, Any]:
        """Name, fingerprint, and the statistics of `harness data describe`."""
        return describe(self.folder)


@dataclass(frozen=True)
class Workspace:
    """Folders and machine of a notebook's experiments, as the options of `harness run` name them."""

    runs: Path = Path("runs")
    cache: Path = Path("cache")
    device: str = "cpu"
    threads: int = 1
    jobs: int = 1

    def dataset(self, source: str | Source) -> PreparedData:
        """The data set of that name or path, prepared if need be; a `Source` says how its files are read."""
        return PreparedData(open_dataset(Source(source) if isinstance(source, str) else source, self.cache))

    def run(
        self,
        data: PreparedData,
        method_names: Iterable[str],
        *,
        ablations: Iterable[str] = (),
        seeds: Iterable[int] = (0,),
        settings: Settings | None = None,
        changes: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> pl.DataFrame:
        """The metrics of the runs, computed as far as they are not there: one row per run, metric and k.

        `changes` maps a method to the fields that differ from its preset. `StageError` names the first that failed.
        """
        settings = settings or Settings()
        tables = {**settings.tables, **(changes or {})}
        settings = dataclasses.replace(settings, tables=tables, device=self.device)
        place = Place(data.folder, self.cache, self.runs, self.device, self.threads, self.jobs)
        plan = make_plan(
            data.content, method_names=method_names, ablation_names=ablations, seeds=seeds, settings=settings
        )
        results = run_plan(plan, place, Observer())
        for result in results:
            if result.outcome.status != "done":
                raise StageError(f"{result.cell.label}: {result.outcome.error}")
        folders = {result.folder for result in results}
        frames = [run.metrics() for run in self.results(data) if run.folder in folders]
        return pl.concat([METRICS_SCHEMA.to_frame(), *frames])

    def results(self, data: PreparedData | None = None) -> list[Run]:
        """The finished runs of one data set, or of all: each gives its record, and its frames of metrics and ranks."""
        return find_runs(self.runs, RunFilter(dataset=None if data is None else self._name(data)))

    def table(
        self,
        data: PreparedData,
        *,
        ablations_of: str | None = None,
        filters: Filters | None = None,
        view: View | None = None,
    ) -> Table:
        """The leaderboard of methods, or of one method's ablations; `results.tables.render` prints it."""
        if ablations_of is not None:
            return ablation_table(self.runs, self._name(data), ablations_of, filters, view)
        return overall_table(self.runs, self._name(data), filters, view)

    def compare(self, data: PreparedData, first: str, second: str | None = None) -> list[Comparison]:
        """The first method against the second, or against each other one; as `harness compare`."""
        return compare_runs(self.runs, first, second, dataset=self._name(data))

    def _name(self, data: PreparedData) -> str:
        told = data.describe()
        return f"{told['name']}-{told['fingerprint']}"
