"""A search so small that a trial takes a moment: the planted ring of items, and a SASRec of a few epochs on it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.data.open import Source, open_dataset
from harness.data.prepare import load_dataset
from harness.experiment.place import Place
from harness.experiment.plan import Cell, Settings, make_plan
from harness.jobs.graph import Observer
from harness.methods import method_named
from harness.testing import planted
from sweeps.samplers import PRUNING_STARTUP_TRIALS
from sweeps.search import Watch, search
from sweeps.spaces import Space, grid_of
from sweeps.storage import StudyStorage
from sweeps.study import Sweep
from sweeps.summaries import StudySummary, load_named

SILENT = Observer(lambda key: None, lambda key, epoch: None, lambda key, outcome: None)
QUIET = Watch(lambda trial, cell: SILENT, lambda trial, best: None)
TABLES = {"sasrec": {**method_named("sasrec").tiny, "epochs": 4, "patience": 100, "learning_rate": 1e-2}}


def ratings_file(path: Path) -> Path:
    """The planted walks in the Amazon format."""
    rows = [
        f"u{user},i{item},5.0,{1_600_000_000_000 + step}"
        for user, walk in enumerate(planted.walks().tolist())
        for step, item in enumerate(walk)
    ]
    path.write_text("\n".join(rows) + "\n")
    return path


def prepared(cache: Path) -> Path:
    """The folder of the prepared data set."""
    cache.mkdir(parents=True, exist_ok=True)
    return open_dataset(Source(str(ratings_file(cache / "ring.csv"))), cache)


@dataclass
class Tiny:
    """One folder with everything of a search in it."""

    root: Path
    dataset: Path
    tables: dict[str, Any] = field(default_factory=lambda: TABLES)

    def planned(self, space: Space | None = None, method: str = "sasrec", **changes: Any) -> tuple[Sweep, Cell]:
        """A sweep of the method and the cell that its trials change."""
        data = load_dataset(self.dataset)
        settings = Settings(tables=self.tables)
        (cell,) = make_plan(data, method_names=[method], ablation_names=[], seeds=[0], settings=settings).cells
        space = (space or grid_of(method_named(method))).checked(cell.config)
        content = {
            "method": method,
            "version": 1,
            "dataset": data.name,
            "fingerprint": data.fingerprint,
            "source": {"name": str(self.dataset)},
            "preset": "lite",
            "recipe": "default",
            "tables": {},
            "text": None,
            "config": cell.config.model_dump(mode="json"),
            "contract": cell.settings.contract.model_dump(mode="json"),
            "precision": "fp32",
            "seed": 0,
            "space": space,
            "sampler": "random",
            "pruner": "none",
        }
        return Sweep.model_validate(content | changes), cell

    def place(self, jobs: int = 1) -> Place:
        """Where the search computes."""
        return Place(dataset=self.dataset, cache=self.root / "cache", runs=self.root / "runs", jobs=jobs)

    @property
    def storage(self) -> StudyStorage:
        """Where the search's studies lie."""
        return StudyStorage(self.root / "studies", grace_seconds=1)

    def search(
        self,
        trials: int,
        space: Space | None = None,
        *,
        jobs: int = 1,
        watch: Watch = QUIET,
        startup_trials: int = PRUNING_STARTUP_TRIALS,
        **changes: Any,
    ) -> StudySummary:
        """The study after a search."""
        sweep, cell = self.planned(space, **changes)
        search(sweep, cell, sweep.name, trials, self.place(jobs), self.storage, watch, startup_trials)
        return load_named(sweep.name, self.storage)


def choices(method: str = "sasrec", **fields: tuple[Any, ...]) -> Space:
    """A space of lists; `__` in a name stands for a dot."""
    return Space.model_validate(
        {"method": method, "fields": {name.replace("__", "."): {"values": values} for name, values in fields.items()}}
    )
