"""Where an experiment reads and writes, and where the results of a cell lie."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import StageError
from harness.experiment.plan import Cell
from harness.jobs.torchrun import World
from harness.stages import StageStore, read_json
from results.store.runs import CASES, DONE, OUTCOMES, RECORD, run_folder


@dataclass(frozen=True)
class Place:
    """Where an experiment reads and writes, and on what it computes; nothing here decides a number but threads.

    The processes of `world` each run the same plan; those that a stage has in its conditions train it together, and
    the main one computes the other stages alone while the rest wait. All see the same folders; only it writes.
    """

    dataset: Path  # the prepared data set's folder
    cache: Path
    runs: Path
    device: str = "cpu"
    threads: int = 1
    jobs: int = 1
    world: World = field(default_factory=World)

    @property
    def store(self) -> StageStore:
        """The stages under the cache folder."""
        return StageStore(self.cache)


def cell_folder(cell: Cell, dataset_name: str, runs: Path) -> Path:
    """Where the cell's results lie: data of the same name and another content have a folder of their own.

    A run that the version before wrote, without the fingerprint in the folder's name, is found where it lies.
    """
    row = (cell.method, cell.ablation.variant, cell.config_digest, cell.seed)
    folder = run_folder(runs, f"{dataset_name}-{cell.fit.dataset[:8]}", *row)
    before = run_folder(runs, dataset_name, *row)
    return before if not folder.exists() and is_run_of(cell, before) else folder


def is_run_of(cell: Cell, folder: Path) -> bool:
    """Whether the folder holds a finished run of the cell: of its data (and so its split), under its contract."""
    if not (folder / DONE).exists():
        return False
    try:
        record = read_json(folder / RECORD)
    except (StageError, OSError):  # damaged: it is evaluated anew
        return False
    asked = (cell.fit.dataset, cell.settings.contract.digest())
    return (record.get("dataset_fingerprint"), record.get("contract_digest")) == asked


def is_open(cell: Cell, folder: Path, store: StageStore) -> bool:
    """Whether the cell's run must be made, or made anew for a table that older runs lack and that costs no training."""
    lacks = not all((folder / table).exists() for table in (CASES, OUTCOMES))
    return not is_run_of(cell, folder) or (lacks and store.is_done(cell.fit))


def run_key(cell: Cell) -> str:
    """The key of the job that evaluates a cell."""
    return f"run-{cell.fit.key}"
