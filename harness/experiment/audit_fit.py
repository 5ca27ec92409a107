"""An audit's own fit: a run's model trained once more, to learn what its other epochs would have scored on the test.

The fit is a run's in every number; it only writes down the recommender of each epoch that is validated, and it gets no
test target. When it has ended, the evaluation of runs reads the test for each of them. The ranks lie beside the run,
where no selection looks.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from harness.data.prepare import load_dataset
from harness.errors import UsageError
from harness.experiment.audit import cell_of_run
from harness.experiment.compute import fit_context, histories
from harness.experiment.evaluate import judged, result_of, tables_of
from harness.experiment.place import Place
from harness.experiment.plan import Cell
from harness.experiment.run import stage_jobs
from harness.interfaces import Recommender
from harness.jobs.graph import Job, Send
from harness.stages import IN_USE, PARTIAL, alive, full_disk_as_one_line, locked
from results.store.epochs import epochs_frame, epochs_path
from results.store.runs import Run, write_parquet

FOLDER = "audit-fits"  # of the cache
KEPT = "kept"  # in the fit's folder: a recommender's folder for each epoch


def job_key(run: Run) -> str:
    """The key of the job that makes an audit's fit of a run."""
    record = run.record
    return f"audit-{record.method}-{record.variant}-{record.config_digest}-{record.seed}"


def audit_jobs(runs: Sequence[Run], place: Place) -> tuple[dict[str, Job], dict[str, str]]:
    """A job for each run's fit and for each stage below it that the cache has no more, needs first; and their labels.

    `UsageError` where a fit cannot be made again here.
    """
    jobs: dict[str, Job] = {}
    labels: dict[str, str] = {}
    for run in runs:
        cell = refittable_cell(run, place)
        for stage in cell.fit.inputs.values():
            jobs |= stage_jobs(stage, place)
        needs = tuple(stage.key for stage in cell.fit.inputs.values() if not place.store.is_done(stage))
        labels |= {stage.key: f"{stage.kind}, seed {stage.seed}" for stage in cell.fit.with_ancestors()}
        labels[job_key(run)] = f"{cell.label}: again"
        jobs[job_key(run)] = Job(job_key(run), partial(fit_again, run, place), needs, cell.fit.effort)
    return jobs, labels


def refittable_cell(run: Run, place: Place) -> Cell:
    """The cell of a run whose fit can be made again here; `UsageError` where it cannot."""
    cell = cell_of_run(run, place)
    if cell.settings.processes > 1:
        raise UsageError(
            f"--fit trains in one process, but {run.folder} was trained by {cell.settings.processes} together, whose "
            "numbers are others; name other methods"
        )
    return cell


def fit_again(run: Run, place: Place, send: Send) -> None:
    """Keeps the test ranks of each validated epoch of a run's training beside the run (`results.store.epochs`).

    An interrupted fit goes on where it stopped. Its folder in the cache goes when the ranks are written.
    """
    path, cell = epochs_path(run), refittable_cell(run, place)
    folder = place.cache / FOLDER / f"{cell.fit.key}{PARTIAL}"
    lock = locked(folder.with_name(f"{cell.fit.key}.lock"), f"the audit's fit of '{cell.label}'", wait_seconds=-1)
    with full_disk_as_one_line(folder), alive(place.cache / IN_USE), lock:
        if path.exists():  # another process made it meanwhile
            return
        folder.mkdir(parents=True, exist_ok=True)
        torch.set_num_threads(run.record.threads)  # else the numbers would be others than the run's
        kept_fit(cell, place, folder, send)
        rows = ranks_of_epochs(cell, place, folder, send)
        if not rows:
            raise UsageError(f"{cell.label} does not tell its epochs (FitContext.keep), so --fit is not for it")
        write_parquet(path, epochs_frame(rows))
        shutil.rmtree(folder)


def keeping(folder: Path) -> Callable[[str, int, Recommender], None]:
    """A `FitContext.keep` that saves each recommender in a folder of its own, `<stage>-<epoch>`."""

    def keep(stage: str, epoch: int, recommender: Recommender) -> None:
        own = folder / f"{stage}-{epoch}"
        own.mkdir(parents=True, exist_ok=True)
        recommender.save(own)

    return keep


def kept_fit(cell: Cell, place: Place, folder: Path, send: Send) -> None:
    """Makes the cell's fit in a folder, with the recommenders of its epochs below `KEPT`."""

    inputs = {name: place.store.folder(stage) for name, stage in cell.fit.inputs.items()}
    context = replace(fit_context(cell.fit, place, folder, send), keep=keeping(folder / KEPT))
    cell.fit.build(cell.config, load_dataset(place.dataset), inputs, context)


def ranks_of_epochs(cell: Cell, place: Place, folder: Path, send: Send) -> list[dict[str, object]]:
    """Stage, epoch, validation score and test ranks by the cell's contract of each kept recommender, in order."""
    contract, found = cell.settings.contract, []
    for row in histories(folder):
        kept = folder / KEPT / f"{row['stage']}-{row['epoch']}"
        if not kept.exists():
            continue
        judgement = judged(cell, contract, place, send, kept)
        recommender, dataset, cases, listing = judgement
        tables = tables_of(recommender, dataset, cases, result_of(judgement, contract), listing, contract)
        place_of = {name: row[name] for name in ("stage", "epoch", "score")}
        found.append({**place_of, "ranks": tables.ranks["rank"].to_list()})
    return found
