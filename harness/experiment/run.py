"""Running a plan: its jobs, in the order that their needs ask for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

from harness.data.prepare import load_dataset
from harness.errors import StageError
from harness.experiment.compute import compute_stage
from harness.experiment.evaluate import evaluate_cell
from harness.experiment.place import Place, cell_folder, is_open, run_key
from harness.experiment.plan import Cell, Plan
from harness.jobs.graph import Job, Observer, Outcome, RunJobs
from harness.jobs.local import run_jobs
from harness.stages import Stage, StageStore, locked


class CellResult(NamedTuple):
    """A cell of the plan and how it ended."""

    cell: Cell
    folder: Path
    outcome: Outcome


def run_plan(plan: Plan, place: Place, observer: Observer, *, execute: RunJobs = run_jobs) -> list[CellResult]:
    """Computes what the plan's cells still lack; each cell's result, in the plan's order. `execute` runs the jobs.

    What is done is not done again, but for runs that `is_open` names. `StageError` when another process works on one of
    the cells.
    """
    dataset_name = load_dataset(place.dataset).name
    folders = {cell.fit.key: cell_folder(cell, dataset_name, place.runs) for cell in plan.cells}
    open_cells = [cell for cell in plan.cells if is_open(cell, folders[cell.fit.key], place.store)]
    with ExitStack() as locks:
        for cell in open_cells if place.world.is_main else ():
            lock = folders[cell.fit.key] / ".lock"
            locks.enter_context(locked(lock, f"the run '{cell.label}'", wait_seconds=0))
        outcomes = execute(
            same_jobs(plan, jobs_of(open_cells, folders, place), folders, place),
            processes=place.jobs,
            threads=place.threads,
            logs=place.cache / "logs",
            observer=observer if place.world.size == 1 else ending_at_a_failure(observer, plan),
        )
    done = Outcome("done")
    return [CellResult(cell, folders[cell.fit.key], outcomes.get(run_key(cell), done)) for cell in plan.cells]


def jobs_of(cells: Sequence[Cell], folders: dict[str, Path], place: Place) -> dict[str, Job]:
    """A job for each unfinished stage and each cell, needs first."""
    jobs: dict[str, Job] = {}
    for cell in cells:
        jobs |= stage_jobs(cell.fit, place)
        run = partial(evaluate_cell, cell, folders[cell.fit.key], place)
        needs = () if place.store.is_done(cell.fit) else (cell.fit.key,)
        jobs[run_key(cell)] = Job(run_key(cell), run, needs)
    return jobs


def same_jobs(plan: Plan, jobs: dict[str, Job], folders: dict[str, Path], place: Place) -> dict[str, Job]:
    """The main process's jobs, in each process: what is missing may change while they look."""
    if place.world.is_main:
        place.world.tell("jobs", json.dumps({key: (job.needs, job.weight) for key, job in jobs.items()}))
        return jobs
    runs = {stage.key: partial(compute_stage, stage, place) for stage in plan.stages}
    for cell in plan.cells:
        runs[run_key(cell)] = partial(evaluate_cell, cell, folders[cell.fit.key], place)
    agreed = json.loads(place.world.hear("jobs"))
    return {key: Job(key, runs[key], tuple(needs), weight) for key, (needs, weight) in agreed.items()}


def ending_at_a_failure(observer: Observer, plan: Plan) -> Observer:
    """The observer, but a job that fails in one of several processes is a `StageError`: the others cannot go on."""
    labels = {stage.key: stage.kind for stage in plan.stages} | {run_key(cell): cell.label for cell in plan.cells}

    def ended(key: str, outcome: Outcome) -> None:
        if outcome.status != "done":
            raise StageError(f"{labels[key]}: {outcome.error}")
        observer.ended(key, outcome)

    return observer._replace(ended=ended)


def stage_jobs(stage: Stage, place: Place) -> dict[str, Job]:
    """A job for each stage that must still be computed for this one, needs first."""
    jobs = {}
    for missing in missing_stages(stage, place.store):
        needs = tuple(child.key for child in missing.inputs.values() if not place.store.is_done(child))
        jobs[missing.key] = Job(missing.key, partial(compute_stage, missing, place), needs, missing.effort)
    return jobs


def missing_stages(stage: Stage, store: StageStore) -> Iterator[Stage]:
    """The stages that must still be computed for this one, needs first; finished ones hide what is below them."""
    if not store.is_done(stage):
        for child in stage.inputs.values():
            yield from missing_stages(child, store)
        yield stage
