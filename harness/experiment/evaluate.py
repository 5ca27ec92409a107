"""Evaluating a fitted cell: the only place where the test split is read, and where runs are written."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from harness.config import to_toml
from harness.data.dataset import PADDING, Dataset, EvalCases
from harness.data.prepare import load_dataset, load_test
from harness.distributed import ALONE, Group
from harness.evaluation.listing import Listing, listing_of, outcomes_of
from harness.evaluation.outcomes import Evaluation, evaluation_of
from harness.experiment.compute import fit_context, group_of, group_size, histories, is_shared
from harness.experiment.place import Place, run_key
from harness.experiment.plan import FULL, Cell
from harness.interfaces import Contract, Recommender, SharesCodes
from harness.jobs.graph import Send
from harness.methods import method_named
from harness.provenance import environment, now
from harness.stages import full_disk_as_one_line, locked
from results.store.outcomes import LIST_PLACES
from results.store.reading import is_plain, ranks_under
from results.store.runs import UserTables, write_run
from results.store.schema import RunRecord, cases_frame, history_frame, ranks_frame


class Judged(NamedTuple):
    """A fitted cell's lists for the test cases."""

    recommender: Recommender
    dataset: Dataset
    cases: EvalCases
    listing: Listing


def evaluate_cell(cell: Cell, folder: Path, place: Place, send: Send) -> None:
    """Reads the test split, ranks every user's target, and writes the run."""
    started = time.perf_counter()
    if not place.world.is_main and not is_shared(cell.fit):
        return
    contract, fitted = cell.settings.contract, place.store.folder(cell.fit)
    with group_of(cell.fit, run_key(cell), place) as group:
        found = judged(cell, contract, place, send, fitted, group)
    if not place.world.is_main:
        return
    recommender, dataset, cases, listing = found
    result = result_of(found, contract)
    num_users = 0 if cases.owners is None else len(np.unique(cases.owners))
    record = record_of(cell, dataset, place, result, recommender.health(), started, num_users)
    tables = tables_of(recommender, dataset, cases, result, listing, contract)
    # A cluster job that outlived its submitter may be writing the same run.
    lock = locked(fitted.with_name(f"{cell.fit.key}.lock"), f"the run '{cell.label}'", wait_seconds=-1)
    with full_disk_as_one_line(folder), lock:
        folder.mkdir(parents=True, exist_ok=True)
        for checkpoint in fitted.glob("*.safetensors"):
            link_or_copy(checkpoint, folder / checkpoint.name)
        write_run(
            folder,
            record,
            tables,
            history=history_frame(histories(fitted)),
            config_toml=to_toml({cell.method: cell.config.model_dump(mode="json")}),
            env=environment() | {"processes": group_size(cell.fit, place)} | gpu_facts(cell, place),
            item_counts=dataset.item_counts,
        )


def judged(cell: Cell, contract: Contract, place: Place, send: Send, fitted: Path, group: Group = ALONE) -> Judged:
    """The cell's model, as a folder holds it, asked under a contract.

    Beside it, only lists from elsewhere read the test.
    """
    dataset = load_dataset(place.dataset)
    cases = load_test(place.dataset, dataset)
    context = fit_context(cell.fit, place, fitted, send, group, contract)
    recommender = method_named(cell.method).load(fitted, cell.config, dataset, context)
    places = max(LIST_PLACES, contract.num_beams, contract.top_k)
    return Judged(recommender, dataset, cases, listing_of(recommender, dataset, cases, contract.top_k, places))


def result_of(found: Judged, contract: Contract) -> Evaluation:
    """The evaluation of as many places as the contract has."""
    items, scores = (lists[:, : contract.top_k] for lists in found.listing[:2])
    return evaluation_of(items, scores, found.cases.targets)


def tables_of(
    recommender: Recommender,
    dataset: Dataset,
    cases: EvalCases,
    result: Evaluation,
    listing: Listing,
    contract: Contract,
) -> UserTables:
    """The run's tables by users: outcomes of all, ranks and cases of those whom the contract keeps."""
    outcomes, about = outcomes_of(recommender, dataset, cases, listing), cases_of(recommender, dataset, cases)
    if is_plain(rules := dict(contract)):
        ranks = ranks_frame(result.ranks, cases.targets, result.items, result.invalid)
    else:
        ranks = ranks_under(rules, outcomes, about, "the evaluation")
    kept = about.join(ranks.select("user"), on="user", how="semi")
    return UserTables(ranks=ranks, cases=kept, outcomes=outcomes)


def record_of(
    cell: Cell,
    dataset: Dataset,
    place: Place,
    result: Evaluation,
    health: dict[str, Any],
    started: float,
    num_users: int,
) -> RunRecord:
    """The facts of the run; `started` is when its evaluation did (`time.perf_counter`), `num_users` as in a record."""
    method, settings = method_named(cell.method), cell.settings
    health["invalid_share"] = float(result.invalid.sum() / result.items.size)
    *ancestors, _ = cell.fit.with_ancestors()
    stages = {stage.kind: place.store.record(stage) for stage in ancestors} | {"fit": place.store.record(cell.fit)}
    return RunRecord(
        dataset=dataset.name,
        dataset_fingerprint=dataset.fingerprint,
        synthetic=dataset.synthetic,
        split=dataset.split,
        whole=dataset.whole,
        num_users=num_users,
        method=cell.method,
        title=method.title,
        variant=cell.ablation.variant,
        variant_title=cell.ablation.title or method.title,
        config_digest=cell.config_digest,
        seed=cell.seed,
        contract=settings.contract.model_dump(mode="json"),
        contract_digest=settings.contract.digest(),
        preset=settings.preset,
        recipe=settings.recipe,
        trials=cell.trials,
        num_parameters=health.pop("num_parameters", 0),
        seconds={kind: stage["seconds"] for kind, stage in stages.items()} | {"test": time.perf_counter() - started},
        peak_memory_mb=max(stage["peak_memory_mb"] for stage in stages.values()),
        device=place.device,
        threads=place.threads,
        created=now(),
        assumptions=method.assumptions(cell.config),
        health=health,
        family=method.family,
        place=method.place,
        variant_place=[FULL.name, *method.ablations].index(cell.ablation.name),
        is_proposed=method.is_proposed,
        preset_changes=dict(cell.changes),
        num_items=dataset.num_items,
        processes=group_size(cell.fit, place),
        precision=settings.precision,
    )


def gpu_facts(cell: Cell, place: Place) -> dict[str, Any]:
    """The GPU that the cell was fitted on, and the most of its memory that a stage of it held; nothing on a CPU."""
    records = [place.store.record(stage) for stage in cell.fit.with_ancestors()]
    peaks = [record["peak_gpu_memory_mb"] for record in records if "peak_gpu_memory_mb" in record]
    found = {name: value for name, value in records[-1]["environment"].items() if name in ("gpu", "driver", "cuda")}
    return found | ({"peak_gpu_memory_mb": round(max(peaks), 1)} if peaks else {})


def cases_of(recommender: Recommender, dataset: Dataset, cases: EvalCases) -> pl.DataFrame:
    """What is known of each case beside the rank (`CASES_SCHEMA`), to cut the users into slices by."""
    sharers_N = recommender.item_sharers() if isinstance(recommender, SharesCodes) else None
    return cases_frame(
        cases.histories.lengths,
        dataset.item_counts[cases.targets - PADDING - 1],
        None if sharers_N is None else sharers_N[cases.targets - PADDING - 1],
        cases.new_users,
        cases.owners,
    )


def link_or_copy(source: Path, target: Path) -> None:
    """The file under a second name, sharing the disk's space where the file system can."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
