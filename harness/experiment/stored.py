"""What the cache still holds of a stored run: its prepared data, and the histories of what its fit stands on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from harness.data.catalog import NAMED
from harness.data.open import prepared_folders
from harness.data.prepare import describe
from harness.errors import HarnessError, StageError, UsageError
from harness.experiment.compute import histories
from harness.stages import read_json
from results.store.runs import Run
from results.store.schema import history_frame


def prepared_folder(fingerprint: str, cache_dir: Path) -> Path | None:
    """Where the data set with this content lies prepared, the newest if it does so twice."""
    found = [folder for folder in prepared_folders(cache_dir) if _fingerprint(folder) == fingerprint]
    return found[-1] if found else None


def prepared_of(run: Run, cache: Path) -> Path:
    """Where the data of a run lie prepared; `UsageError` where the cache has them no more."""
    record = run.record
    folder = prepared_folder(record.dataset_fingerprint, cache)
    if folder is None:
        raise UsageError(
            f"the prepared data of '{record.dataset}' are needed, but {cache} has no longer those with the fingerprint "
            f"{record.dataset_fingerprint}; give harness data describe {record.dataset}"
        )
    return folder


def dataset_here(name: str, fingerprint: str, cache_dir: Path) -> str:
    """What `--dataset` takes on this machine for the data of a run: a name, or else the prepared data's folder.

    `PATH/TO/name` where the cache has them no more.
    """
    if name in NAMED:
        return name
    folder = prepared_folder(fingerprint, cache_dir)
    return f"PATH/TO/{name}" if folder is None else str(folder)


def _fingerprint(folder: Path) -> str | None:
    try:
        return str(describe(folder)["fingerprint"])
    except HarnessError:  # prepared by another version, or damaged: not what is looked for
        return None


def pretraining_of(run: Run, cache: Path) -> pl.DataFrame | None:
    """The history of the stages that a run's fit stands on (`HISTORY_SCHEMA`); None where the cache has them no more.

    The fit is known by its history, times included, which no other fit shares.
    """
    fit = next(_fits([run], cache), None)
    if fit is None:
        return None
    return history_frame(row for folder in dict.fromkeys(_ancestors(fit, cache)) for row in histories(folder))


def stages_below(runs: Sequence[Run], cache: Path) -> set[Path]:
    """The folders of the stages that the runs stand on; of a fit without a history, those of all that may be it."""
    fits = set(_fits(runs, cache))
    return fits | {folder for fit in fits for folder in _ancestors(fit, cache)}


def _fits(runs: Sequence[Run], cache: Path) -> Iterator[Path]:
    """The finished stages that have the method, data, seed and history of a run."""
    by_place: dict[tuple[str, str, int], list[pl.DataFrame]] = defaultdict(list)
    for run in runs:
        record = run.record
        by_place[record.method, record.dataset_fingerprint, record.seed].append(run.history().sort(pl.all()))
    for method in {method for method, _, _ in by_place}:
        for path in sorted((cache / method).glob("*/stage.json")):
            try:
                stage = read_json(path)
                known = by_place[method, stage.get("dataset", ""), stage.get("seed", 0)]
                history = history_frame(histories(path.parent) if known else ()).sort(pl.all())
            except StageError:  # damaged: nothing stands on it
                continue
            if any(one.equals(history) for one in known):
                yield path.parent


def _ancestors(folder: Path, cache: Path) -> Iterator[Path]:
    """The folders of the stages that a stage stands on, inputs first; those that the cache has no more are left out."""
    for place in read_json(folder / "stage.json").get("inputs", {}).values():
        if (cache / place / "stage.json").exists():
            yield from _ancestors(cache / place, cache)
            yield cache / place
