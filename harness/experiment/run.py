"""Running a plan: the only place where data, methods, evaluation and results meet."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import polars as pl

from harness.config import to_toml
from harness.data.dataset import PADDING, Dataset, EvalCases
from harness.data.prepare import load_dataset, load_test
from harness.distributed import ALONE, Group, World
from harness.errors import StageError
from harness.evaluation.outcomes import evaluate
from harness.experiment.plan import Cell, Plan
from harness.interfaces import Contract, FitContext, Recommender, SharesCodes
from harness.jobs.local import Job, Observer, Outcome, RunJobs, Send, run_jobs
from harness.methods import effort_of, method_named, methods
from harness.provenance import environment, now, peak_memory_mb
from harness.stages import Stage, StageStore, full_disk_as_one_line, locked, read_json
from results.store.runs import CASES, DONE, run_folder, write_run
from results.store.schema import RunRecord, cases_frame, history_frame, ranks_frame


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


class CellResult(NamedTuple):
    """A cell of the plan and how it ended."""

    cell: Cell
    folder: Path
    outcome: Outcome


def cell_folder(cell: Cell, dataset_name: str, runs: Path) -> Path:
    """Where the cell's results lie."""
    return run_folder(runs, dataset_name, cell.method, cell.ablation.variant, cell.config_digest, cell.seed)


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


def is_open(cell: Cell, folder: Path, store: StageStore) -> bool:
    """Whether the cell's run must be made, or made anew for a table that older runs lack and that costs no training."""
    if not (folder / DONE).exists():
        return True
    return not (folder / CASES).exists() and store.is_done(cell.fit)


def run_key(cell: Cell) -> str:
    """The key of the job that evaluates a cell."""
    return f"run-{cell.fit.key}"


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
        jobs[missing.key] = Job(missing.key, partial(compute_stage, missing, place), needs, effort_of(missing))
    return jobs


def missing_stages(stage: Stage, store: StageStore) -> Iterator[Stage]:
    """The stages that must still be computed for this one, needs first; finished ones hide what is below them."""
    if not store.is_done(stage):
        for child in stage.inputs.values():
            yield from missing_stages(child, store)
        yield stage


def compute_stage(stage: Stage, place: Place, send: Send) -> None:
    """Computes one stage in this process, or this process's part of it; its progress goes to `send`."""
    world, part, done = place.world, f"{stage.key}/part", f"{stage.key}/done"

    def build_part(folder: Path) -> Dataset:
        dataset = load_dataset(place.dataset)
        inputs = {name: place.store.folder(child) for name, child in stage.inputs.items()}
        with group_of(stage, stage.key, place) as group:
            stage.build(stage.config, dataset, inputs, fit_context(stage, place, folder, send, group))
            group.barrier()  # all have read the checkpoints, which go when the stage is done
        return dataset

    def build(folder: Path) -> dict[str, Any]:
        started = time.perf_counter()
        if is_shared(stage):
            world.tell(part, str(folder))
        dataset = build_part(folder)
        return {
            "seconds": seconds_so_far(folder, time.perf_counter() - started),
            "peak_memory_mb": peak_memory_mb(),
            "threads": place.threads,
            "processes": group_size(stage, place),
            "device": place.device,
            "samples": int(dataset.train.offsets[-1]),
            "created": now(),
            "environment": environment(),
        }

    if world.is_main:
        place.store.compute(stage, build)
        world.tell(done)
    else:
        if world.hear_first(part, done) == part:
            build_part(Path(world.hear(part)))
        world.hear(done)


def is_shared(stage: Stage) -> bool:
    """Whether several processes compute the stage together."""
    return "processes" in stage.conditions


def group_size(stage: Stage, place: Place) -> int:
    """How many processes compute the stage."""
    return place.world.size if is_shared(stage) else 1


def group_of(stage: Stage, job: str, place: Place) -> AbstractContextManager[Group]:
    """The processes that compute the stage, or evaluate what it made, while the block lasts."""
    return place.world.joined(job, place.world.device(place.device)) if is_shared(stage) else nullcontext(ALONE)


def seconds_so_far(folder: Path, seconds: float) -> float:
    """The seconds that a stage took; if it went on from a checkpoint, what its epochs took is the better count."""
    trained = sum(row["train_seconds"] + row["score_seconds"] for row in histories(folder))
    return max(seconds, trained)


def fit_context(stage: Stage, place: Place, folder: Path, send: Send, group: Group = ALONE) -> FitContext:
    """What the stage's fit gets besides config and data."""
    conditions = stage.conditions
    contract = Contract.model_validate(conditions.get("contract", {}))
    released = methods()[stage.kind].released_decoding if stage.kind in methods() else "trie"
    precision: Literal["fp32", "bf16"] = conditions["precision"]
    return FitContext(
        seed=stage.seed,
        folder=folder,
        contract=contract,
        is_constrained=(released if contract.decoding == "released" else contract.decoding) == "trie",
        device=place.world.device(place.device),
        precision=precision,
        report=send,
        group=group,
    )


def histories(folder: Path) -> list[dict[str, Any]]:
    """The rows of all training histories in a stage's folder, in the order in which the trainings ran."""
    files = sorted(folder.glob("history-*.json"), key=lambda path: path.stat().st_mtime_ns)
    return [row for path in files for row in read_json(path)]


def evaluate_cell(cell: Cell, folder: Path, place: Place, send: Send) -> None:
    """Reads the test split, ranks every user's target, and writes the run. The only caller of `load_test`."""
    started = time.perf_counter()
    if not place.world.is_main and not is_shared(cell.fit):
        return
    method = method_named(cell.method)
    dataset = load_dataset(place.dataset)
    fitted = place.store.folder(cell.fit)
    cases = load_test(place.dataset, dataset)
    with group_of(cell.fit, run_key(cell), place) as group:
        context = fit_context(cell.fit, place, fitted, send, group)
        recommender = method.load(fitted, cell.config, dataset, context)
        result = evaluate(recommender, cases, cell.contract.top_k)
    if not place.world.is_main:
        return
    health = recommender.health()
    health["invalid_share"] = float(result.invalid.sum() / result.items.size)
    *ancestors, _ = cell.fit.with_ancestors()
    stages = {stage.kind: place.store.record(stage) for stage in ancestors} | {"fit": place.store.record(cell.fit)}
    record = RunRecord(
        dataset=dataset.name,
        dataset_fingerprint=dataset.fingerprint,
        synthetic=dataset.synthetic,
        method=cell.method,
        title=method.title,
        variant=cell.ablation.variant,
        variant_title=cell.ablation.title or method.title,
        config_digest=cell.config_digest,
        seed=cell.seed,
        contract=cell.contract.model_dump(mode="json"),
        contract_digest=cell.contract.digest(),
        preset=cell.preset,
        recipe=cell.recipe,
        trials=cell.trials,
        num_parameters=health.pop("num_parameters", 0),
        seconds={kind: stage["seconds"] for kind, stage in stages.items()} | {"test": time.perf_counter() - started},
        peak_memory_mb=max(stage["peak_memory_mb"] for stage in stages.values()),
        device=place.device,
        threads=place.threads,
        created=now(),
        assumptions=method.assumptions(cell.config),
        health=health,
    )
    # A cluster job that outlived its submitter may be writing the same run.
    lock = locked(fitted.with_name(f"{cell.fit.key}.lock"), f"the run '{cell.label}'", wait_seconds=-1)
    with full_disk_as_one_line(folder), lock:
        folder.mkdir(parents=True, exist_ok=True)
        for checkpoint in fitted.glob("*.safetensors"):
            link_or_copy(checkpoint, folder / checkpoint.name)
        write_run(
            folder,
            record,
            ranks=ranks_frame(result.ranks, cases.targets, result.items, result.invalid),
            cases=cases_of(recommender, dataset, cases),
            history=history_frame(histories(fitted)),
            config_toml=to_toml({cell.method: cell.config.model_dump(mode="json")}),
            env=environment() | {"processes": group_size(cell.fit, place)},
        )


def cases_of(recommender: Recommender, dataset: Dataset, cases: EvalCases) -> pl.DataFrame:
    """What is known of each case beside the rank (`CASES_SCHEMA`), to cut the users into slices by."""
    counts = np.bincount(dataset.train.items, minlength=dataset.num_items + 1)
    sharers_N = recommender.item_sharers() if isinstance(recommender, SharesCodes) else None
    return cases_frame(
        cases.histories.lengths,
        counts[cases.targets],
        None if sharers_N is None else sharers_N[cases.targets - PADDING - 1],
        cases.new_users,
    )


def link_or_copy(source: Path, target: Path) -> None:
    """The file under a second name, sharing the disk's space where the file system can."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
