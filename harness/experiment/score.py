"""Lists from elsewhere as rows of our tables, and our rows as lists for elsewhere."""

from __future__ import annotations

import re
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from harness.config import digest, to_toml
from harness.data.dataset import PADDING, Dataset
from harness.data.prepare import load_dataset, load_test, sha256, test_users
from harness.errors import DataError, UsageError
from harness.evaluation.given_lists import MEANING, arranged, faults_of
from harness.evaluation.list_files import read_lists
from harness.evaluation.listing import Listing, listed_in_history
from harness.evaluation.outcomes import evaluation_of, target_ranks
from harness.experiment.evaluate import tables_of
from harness.experiment.stored import prepared_folder
from harness.interfaces import Contract
from harness.methods import methods
from harness.provenance import environment, now
from results.store.contract import NAMED
from results.store.find import RunFilter, find_runs
from results.store.outcomes import LIST_PLACES
from results.store.runs import DONE, OUTCOMES, Run, read_run, run_folder, write_run
from results.store.schema import RunRecord, history_frame

PRESET = "given"  # of a row whose model is not known here
NO_ITEM = "no item at place {}"  # the key of a sequence that is no item's


@dataclass(frozen=True)
class Given:
    """A file of ranked lists, and what row it is to be."""

    path: Path
    name: str  # as the tables print it
    seed: int = 0
    allowed: Collection[str] = ()  # faults that are let pass (`harness.evaluation.given_lists.ALLOWED`)
    replaces: bool = False  # a row that another file of this name and seed made

    @property
    def method(self) -> str:
        """The name of the run's folder; `UsageError` for a name that one of our methods has, and for an empty one."""
        slug = re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")
        taken = {method.title.casefold() for method in methods().values()} | set(methods())
        if not slug or slug in taken or self.name.casefold() in taken:
            what = "is a method of this harness" if slug else "has no letter"
            raise UsageError(f"--name must tell the model from others, but '{self.name}' {what}; give another name")
        return slug


class Scored(NamedTuple):
    """The run that was made, or was there already, from the same file."""

    run: Run
    is_new: bool
    notes: list[str]


def score_lists(given: Given, prepared: Path, runs_dir: Path, contract: Contract) -> Scored:
    """An ordinary run from a file of ranked lists; beside `evaluate_cell` the only reader of the test split.

    `DataError` tells every fault of the lists by count and example, unless it is allowed.
    """
    started = time.perf_counter()
    dataset = load_dataset(prepared)
    config = digest({"lists": given.name, "contract": contract.digest()})[:12]
    folder = run_folder(runs_dir, f"{dataset.name}-{dataset.fingerprint[:8]}", given.method, "full", config, given.seed)
    checksum = sha256(given.path) if given.path.is_file() else ""
    if (folder / DONE).exists():
        before = read_run(folder)
        if checksum in before.config_text() and checksum:
            return Scored(before, False, [])
        if not given.replaces:
            raise UsageError(
                f"'{given.name}', seed {given.seed}, is a row made from another file; give another --name or --seed, "
                "or add --replace"
            )
    cases, users = load_test(prepared, dataset), test_users(prepared)
    k = min(contract.top_k, dataset.num_items)
    lists = read_lists(given.path)
    notes = _checked(given, lists, users, dataset, k)
    longest = int(lists.group_by("user").len()["len"].max() or 0)  # type: ignore[arg-type]
    places = max(contract.top_k, min(longest, LIST_PLACES))
    model = arranged(lists, users, dataset.catalog.keys, places)
    result = evaluation_of(*model.recommend(cases.histories, contract.top_k), cases.targets)
    ranks_U = target_ranks(model.items, cases.targets)
    before_U = np.arange(places) < ranks_U[:, None] - 1
    seen_U = (listed_in_history(model.items, cases) & before_U).sum(axis=1)
    unknown_U = np.full(len(cases), np.nan, dtype=np.float32)
    listing = Listing(model.items, model.scores, ranks_U, ranks_U - seen_U, unknown_U)
    run = write_run(
        folder,
        _record(given, dataset, contract, config, time.perf_counter() - started, notes),
        tables_of(model, dataset, cases, result, listing, contract),
        history=history_frame([]),
        config_toml=to_toml({"lists": {"name": given.name, "file": given.path.name, "sha256": checksum}}),
        env=environment(),
        item_counts=dataset.item_counts,
    )
    return Scored(run, True, notes)


def _checked(given: Given, lists: pl.DataFrame, users: list[str], dataset: Dataset, k: int) -> list[str]:
    """What was let pass; `DataError` for any other fault of the lists."""
    _refuse_several_cases(users, dataset.name)
    faults = faults_of(lists, users, dataset.catalog.keys, k)
    left = [fault for fault in faults if fault.kind not in given.allowed]
    if left:
        may = [fault.kind for fault in left if fault.kind in MEANING]
        remedy = f"; mend the file, or let pass with --allow {','.join(may)}" if len(may) == len(left) else ""
        raise DataError(f"{given.path}: {'; '.join(fault.text for fault in left)}{remedy or '; mend the file'}")
    return [f"{MEANING[fault.kind]} ({fault.text})" for fault in faults]


def _refuse_several_cases(users: list[str], dataset: str) -> None:
    """`DataError` where a user has several cases, which files of lists by user cannot tell apart."""
    if len(set(users)) < len(users):
        raise DataError(
            f"lists are one a user, but the split of '{dataset}' has several test cases of user "
            f"'{next(user for user in users if users.count(user) > 1)}'; take another split"
        )


def _record(
    given: Given, dataset: Dataset, contract: Contract, config: str, seconds: float, notes: list[str]
) -> RunRecord:
    return RunRecord(
        dataset=dataset.name,
        dataset_fingerprint=dataset.fingerprint,
        synthetic=dataset.synthetic,
        split=dataset.split,
        whole=dataset.whole,
        method=given.method,
        title=given.name,
        variant="full",
        variant_title=given.name,
        config_digest=config,
        seed=given.seed,
        contract=contract.model_dump(mode="json"),
        contract_digest=contract.digest(),
        preset=PRESET,
        recipe="default",
        num_parameters=0,
        seconds={"test": seconds},
        peak_memory_mb=0.0,
        device="cpu",
        threads=1,
        created=now(),
        assumptions=["ranked lists from a file; how they were made is not known here", *notes],
        preset_changes={},
        num_items=dataset.num_items,
    )


def contract_for(runs_dir: Path, dataset: Dataset, asked: str | None, top_k: int | None) -> Contract:
    """The contract that lists are judged by: the one asked for, else that of the data's runs, else ours.

    `asked` is the name of a set of rules, or the beginning of the digest of a stored run's.
    """
    if top_k is not None:
        return Contract(top_k=top_k, num_beams=max(Contract().num_beams, top_k))
    if asked in NAMED:
        return Contract.model_validate(dict(NAMED[asked].values))
    name = f"{dataset.name}-{dataset.fingerprint}"
    runs = find_runs(runs_dir, RunFilter(dataset=name, contract=asked))
    found = {run.record.contract_digest: run.record.contract for run in runs}
    if asked is not None and len(found) != 1:
        what = f"contracts {', '.join(found)}" if found else "no run"
        raise UsageError(f"--contract must mean one contract of this data's runs, but '{asked}' means {what}")
    if len(found) == 1:
        return Contract.model_validate(next(iter(found.values())))
    if found and Contract().digest() not in found:
        raise UsageError(f"runs of this data have several contracts; add --contract, one of {', '.join(found)}")
    return Contract()


def lists_of(run: Run, cache_dir: Path) -> pl.DataFrame:
    """A run's ranked lists by raw keys, as `read_lists` gives them: at 50 places, or as long as an old run has them.

    A sequence that is no item's has a key of its own. `DataError` where the cache has the data no more, and where users
    have several cases.
    """
    record = run.record
    prepared = prepared_folder(record.dataset_fingerprint, cache_dir)
    if prepared is None:
        raise DataError(
            f"{cache_dir}: must hold the prepared data of the run, which names users and items, but does not; give "
            f"harness data describe with the data set '{record.dataset}'"
        )
    users = test_users(prepared)
    _refuse_several_cases(users, record.dataset)
    keys = pl.Series(["", *load_dataset(prepared).catalog.keys])
    has_outcomes = (run.folder / OUTCOMES).exists()
    if has_outcomes:
        stored = (
            run.outcomes().sort("user").select("user", pl.col("items").alias("item"), pl.col("scores").alias("score"))
        )
    else:
        stored = run.ranks(["user", "top_items"]).sort("user").rename({"top_items": "item"})
    lengths = pl.int_ranges(1, pl.col("item").list.len() + 1).alias("rank")
    rows = stored.with_columns(lengths).explode(*stored.columns[1:], "rank").drop_nulls("rank")
    named = pl.when(pl.col("item") == PADDING).then(pl.format(NO_ITEM, "rank")).otherwise(keys.gather(rows["item"]))
    score = pl.col("score").cast(pl.Float64) if has_outcomes else pl.lit(None, dtype=pl.Float64).alias("score")
    return rows.select(pl.Series(users).gather(rows["user"]).alias("user"), named.alias("item"), "rank", score)
