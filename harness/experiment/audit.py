"""What an audit needs beside a run's own outcomes: its model asked again with another search."""

from __future__ import annotations

import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import polars as pl

from harness.data.prepare import load_dataset
from harness.errors import UsageError
from harness.evaluation.listing import outcomes_of
from harness.experiment.evaluate import judged
from harness.experiment.place import Place, cell_folder, is_run_of
from harness.experiment.plan import Cell, Settings, cell_of
from harness.experiment.reproduce import made_by
from harness.interfaces import Contract
from results.statistics.audit import EXACT, decoded_path
from results.store.runs import Run, read_run, write_parquet

Search = int | str  # so many beams over existing items, or `exact`


def decode_again(
    run: Run, search: Search, place: Place, asked: Callable[[int, float], None] = lambda users, seconds: None
) -> Path:
    """Keeps the outcomes of a run's model under another search beside the run, and returns their file.

    `asked` is told of how many users the model was asked, and how long that took, its loading included.

    The model is the one that the run's own contract selected. Nothing is trained: `UsageError` where the cache no
    longer holds the fit. An exact run of the same fit is taken as it is.
    """
    path = decoded_path(run, search)
    if path.exists():
        return path
    cell = fitted_cell(run, place)
    changes = {"decoding": EXACT} if search == EXACT else {"decoding": "trie", "num_beams": search}
    contract = cell.settings.contract.replace(**changes)
    outcomes = _of_exact_run(cell, contract, place) if search == EXACT else None
    if outcomes is None:
        started = time.perf_counter()
        recommender, dataset, cases, listing = judged(
            cell, contract, place, lambda progress: None, place.store.folder(cell.fit)
        )
        outcomes = outcomes_of(recommender, dataset, cases, listing)
        asked(len(cases), time.perf_counter() - started)
    write_parquet(path, outcomes)
    return path


def fitted_cell(run: Run, place: Place) -> Cell:
    """The cell that made a run; `UsageError` as in `cell_of_run`, or where its fit is gone."""
    cell = cell_of_run(run, place)
    if not place.store.is_done(cell.fit):
        raise UsageError(
            f"decoding again needs the fit of {run.folder}, but {place.cache} has it no more; give the run's command "
            "again with that cache, or leave --decode out"
        )
    return cell


def cell_of_run(run: Run, place: Place) -> Cell:
    """The cell that made a run; `UsageError` where this version would make another one."""
    record = run.record
    method, ablation, _ = made_by(record)
    if method is None:
        raise UsageError(f"{run.folder} is of a method or variant that is not known here; install its package")
    settings = Settings(
        preset=record.preset,
        recipe=record.recipe,
        contract=Contract.model_validate(record.contract),
        precision="bf16" if record.precision == "bf16" else "fp32",
        processes=record.processes,
        device=record.device,
        tables=tomllib.loads(run.config_text()),
    )
    cell = cell_of(load_dataset(place.dataset), record.method, ablation, record.seed, settings)
    if cell.config_digest != record.config_digest:
        raise UsageError(
            f"{run.folder} is of a config that this version reads otherwise; make the run again with this version"
        )
    return cell


def _of_exact_run(cell: Cell, contract: Contract, place: Place) -> pl.DataFrame | None:
    """The outcomes of a finished exact run of the same fit; None where there is none."""
    settings = Settings(**{**vars(cell.settings), "contract": contract})
    dataset = load_dataset(place.dataset)
    other = cell_of(dataset, cell.method, cell.ablation, cell.seed, settings)
    folder = cell_folder(other, dataset.name, place.runs)
    if other.fit.key != cell.fit.key or not is_run_of(other, folder):
        return None
    return read_run(folder).outcomes()
