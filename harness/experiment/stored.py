"""What the cache still holds of a stored run: its prepared data, and the histories of what its fit stands on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from harness.data.open import prepared_folders
from harness.data.prepare import describe
from harness.errors import HarnessError
from harness.experiment.compute import histories
from harness.stages import read_json
from results.store.runs import Run
from results.store.schema import history_frame


def prepared_folder(fingerprint: str, cache_dir: Path) -> Path | None:
    """Where the data set with this content lies prepared, the newest if it does so twice."""
    found = [folder for folder in prepared_folders(cache_dir) if _fingerprint(folder) == fingerprint]
    return found[-1] if found else None


def _fingerprint(folder: Path) -> str | None:
    try:
        return str(describe(folder)["fingerprint"])
    except HarnessError:  # prepared by another version, or damaged: not what is looked for
        return None


def pretraining_of(run: Run, cache: Path) -> pl.DataFrame | None:
    """The history of the stages that a run's fit stands on (`HISTORY_SCHEMA`); None where the cache has them no more.

    The fit is known by its history, times included, which no other fit shares.
    """
    history = run.history().sort(pl.all())
    for path in sorted((cache / run.record.method).glob("*/stage.json")):
        stage = read_json(path)
        place = (stage["dataset"], stage["seed"])
        if place != (run.record.dataset_fingerprint, run.record.seed):
            continue
        if history_frame(histories(path.parent)).sort(pl.all()).equals(history):
            ancestors = dict.fromkeys(_ancestors(path.parent, cache))
            return history_frame(row for folder in ancestors for row in histories(folder))
    return None


def _ancestors(folder: Path, cache: Path) -> Iterator[Path]:
    """The folders of the stages that a stage stands on, inputs first; those that the cache has no more are left out."""
    for place in read_json(folder / "stage.json")["inputs"].values():
        if (cache / place / "stage.json").exists():
            yield from _ancestors(cache / place, cache)
            yield cache / place
