"""Running a plan: its jobs, in the order that their needs ask for."""

from __future__ import annotations

import itertools
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
from harness.stages import IN_USE, Stage, StageStore, alive, locked

BUSY = "another process works on the run '{}'; give the same command again when it has ended"


class CellResult(NamedTuple):
    """A cell of the plan and how it ended."""

    cell: Cell
    folder: Path
    outcome: Outcome


def run_plan(
    plan: Plan, place: Place, observer: Observer, *, execute: RunJobs = run_jobs, waits: bool = True
) -> list[CellResult]:
    """Computes what the plan's cells still lack; each cell's result, in the plan's order. `execute` runs the jobs.

    What is done is not done again, but for runs that `is_open` names. Cells on which another process works are left
    until the others are done; then `waits` waits for that process, and without it they end as skipped.
    """
    dataset_name = load_dataset(place.dataset).name
    folders = {cell.fit.key: cell_folder(cell, dataset_name, place.runs) for cell in plan.cells}
    left = [cell for cell in plan.cells if is_open(cell, folders[cell.fit.key], place.store)]
    outcomes: dict[str, Outcome] = {}
    for attempt in itertools.count():
        with ExitStack() as locks:
            locks.enter_context(alive(place.cache / IN_USE))
            if attempt and waits:
                observer.waiting(left[0].label)
            own, left = _claimed(left, folders, place, locks, waits=attempt > 0 and waits)
            if own or not attempt:
                outcomes |= execute(
                    same_jobs(plan, jobs_of(own, folders, place), folders, place),
                    processes=place.jobs,
                    threads=place.threads,
                    logs=place.cache / "logs",
                    observer=observer if place.world.size == 1 else ending_at_a_failure(observer, plan),
                )
        if not left or (attempt and not waits):
            break
    outcomes |= {run_key(cell): Outcome("skipped", error=BUSY.format(cell.label)) for cell in left}
    done = Outcome("done")
    return [CellResult(cell, folders[cell.fit.key], outcomes.get(run_key(cell), done)) for cell in plan.cells]


def _claimed(
    cells: Sequence[Cell], folders: dict[str, Path], place: Place, locks: ExitStack, *, waits: bool
) -> tuple[list[Cell], list[Cell]]:
    """The cells whose locks this process now holds and that are still open, and those that others hold.

    `waits` waits for the first one that others hold.
    """
    if not place.world.is_main:
        return list(cells), []
    own: list[Cell] = []
    busy: list[Cell] = []
    for number, cell in enumerate(cells):
        folder = folders[cell.fit.key]
        lock = locked(folder / ".lock", f"the run '{cell.label}'", wait_seconds=-1 if waits and number == 0 else 0)
        try:
            locks.enter_context(lock)
        except StageError:
            if place.world.size > 1:  # the others would have to know
                raise
            busy.append(cell)
            continue
        if is_open(cell, folder, place.store):  # the process that held it may have done it
            own.append(cell)
    return own, busy


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
