"""A finished run read by other rules than it was judged by, from its stored outcomes.

Shape legend: U users.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from results.errors import ResultsError
from results.store.contract import DEFAULTS, NAMED, READING, SEARCH, contract_digest, contradictions
from results.store.find import RunFilter, find_runs
from results.store.runs import Run, metrics_frame
from results.store.schema import RANKS_SCHEMA

NUM_NEGATIVES = 99
NEGATIVES_SEED = 0


def find_readable(runs_dir: Path, wanted: RunFilter, *, mask_history: bool = False) -> tuple[list[Run], list[str]]:
    """The runs that match, read as `wanted.contract` names a set of rules, and what the reader must be told.

    Of methods that generate, only runs that searched as the rules say can be read so; the others are left out.
    """
    named = NAMED.get(wanted.contract or "")
    changes = {**(named.values if named else {}), **({"history": "removed"} if mask_history else {})}
    if not changes:
        return find_runs(runs_dir, wanted), []
    runs = find_runs(runs_dir, replace(wanted, contract=None) if named else wanted)
    readable = [run for run in runs if run.record.family != "generative" or _searched_so(run, changes)]
    notes = [f"Read from stored outcomes by {', '.join(f'{n}={v}' for n, v in changes.items() if n not in SEARCH)}."]
    if changes.get("history") == "removed":
        notes.append("Where a method generates, the history is removed from what its search found.")
    left = dict.fromkeys(run.record.title for run in runs if run not in readable)
    if left:
        searched = ", ".join(f"{name}={changes[name]}" for name in SEARCH if name in changes)
        notes.append(f"Not evaluated with {searched}, and so left out: {', '.join(left)}.")
    return list(_once(read_as(run, changes) for run in readable)), notes


def _searched_so(run: Run, changes: Mapping[str, Any]) -> bool:
    return all(run.record.contract.get(name, DEFAULTS[name]) == changes[name] for name in SEARCH if name in changes)


def _once(runs: Iterable[Run]) -> Iterator[Run]:
    """Runs that stand for the same row under the same rules once: the fit does not know how its lists are read."""
    seen = set()
    for run in runs:
        record = run.record
        row = (record.method, record.variant, record.seed, record.preset, record.recipe, run.config_text())
        if (record.dataset_fingerprint, *row) not in seen:
            seen.add((record.dataset_fingerprint, *row))
            yield run


def is_plain(contract: Mapping[str, Any]) -> bool:
    """Whether the ranks of the contract are simply the places in the lists, of all users."""
    return all(contract.get(name, DEFAULTS[name]) == DEFAULTS[name] for name in (*READING, "cold_targets"))


def read_as(run: Run, changes: Mapping[str, Any]) -> Run:
    """The run under its contract with some rules changed, and the digest of that; itself where nothing changes."""
    contract = {**DEFAULTS, **run.record.contract}
    wanted = {**contract, **changes}
    if wanted == contract:
        return run
    if reason := contradictions(wanted):
        raise ResultsError(reason)
    return ReadRun(run.folder, replace(run.record, contract=wanted, contract_digest=contract_digest(wanted)))


@dataclass(frozen=True)
class ReadRun(Run):
    """A run whose record names the rules that its tables are read by."""

    def ranks(self, columns: list[str] | None = None) -> pl.DataFrame:
        """One row per user that the rules keep."""
        found = ranks_under(self.record.contract, self.outcomes(), super().cases(), str(self.folder))
        return found if columns is None else found.select(columns)

    def cases(self) -> pl.DataFrame:
        """One row per user that the rules keep."""
        cases = super().cases()
        return cases.filter(pl.col("user").is_in(self.ranks(["user"])["user"].implode()))

    def metrics(self) -> pl.DataFrame:
        """One row per metric and k."""
        return metrics_frame(self.record, self.ranks())


def ranks_under(contract: Mapping[str, Any], outcomes: pl.DataFrame, cases: pl.DataFrame, what: str) -> pl.DataFrame:
    """The ranks (`RANKS_SCHEMA`) that the outcomes of `what` have under a contract; 0 beyond its `top_k`.

    Lists are those of the search, with the history removed where the contract removes it; 0 where they end.
    """
    top_k, removes = int(contract["top_k"]), contract.get("history") == "removed"
    places = pl.Series("rank", read_ranks(contract, outcomes, what))
    frame = outcomes.with_columns(places).with_columns(
        pl.when(pl.col("rank") <= top_k).then(pl.col("rank")).otherwise(0).alias("rank")
    )
    lists = frame.select("user", "items", "seen").explode("items", "seen")
    lists = lists.filter(pl.col("items").is_not_null() & ~(pl.col("seen") & removes))
    grouped = lists.group_by("user", maintain_order=True).agg(pl.col("items").head(top_k).alias("top_items"))
    padded = pl.col("top_items").fill_null([]).list.concat(pl.lit([0] * top_k, dtype=pl.List(pl.Int32)))
    frame = frame.join(grouped, on="user", how="left", maintain_order="left").with_columns(
        padded.list.head(top_k).alias("top_items")
    )
    frame = frame.with_columns(pl.col("top_items").list.count_matches(0).alias("invalid"))
    if contract.get("cold_targets") == "dropped":
        frame = frame.join(cases.filter(pl.col("target_count") > 0).select("user"), on="user", how="semi")
    return frame.select(list(RANKS_SCHEMA)).cast(RANKS_SCHEMA)


def read_ranks(contract: Mapping[str, Any], outcomes: pl.DataFrame, what: str) -> np.ndarray:
    """(U,) int64 1-based rank of each target by the contract's rules; 0: not found."""
    rules = {name: contract.get(name, DEFAULTS[name]) for name in READING}
    if rules["candidates"] != DEFAULTS["candidates"]:
        return sampled_ranks(outcomes, rules["candidates"], what)
    column = {name: outcomes[name].to_numpy().astype(np.int64) for name in ("rank", "unseen_rank", "code_rank")}
    if rules["history"] == "removed":
        return np.where(outcomes["target_seen"].to_numpy(), 0, column["unseen_rank"])
    if rules["hit_unit"] == "codes":
        return column["code_rank"]
    ahead_U, group_U = (outcomes[name].to_numpy().astype(np.int64) for name in ("code_ahead", "target_sharers"))
    place_U = {"first": ahead_U + 1, "last": ahead_U + group_U}.get(rules["ties"])
    return column["rank"] if place_U is None else np.where(column["code_rank"] > 0, place_U, 0)


def sampled_ranks(outcomes: pl.DataFrame, candidates: str, what: str) -> np.ndarray:
    """(U,) int64 rank among the target and 99 items drawn from outside the history by a seeded stream.

    `uniform99` draws different items: how many of them rank before the target is then hypergeometric in its exact rank.
    `popular99` draws by training interactions, with replacement: binomial in the share of these that ranks before it.
    No drawn item has to be known. `ResultsError` where the exact ranks are not known.
    """
    if outcomes["popular_ahead"].null_count():
        raise ResultsError(
            f"sampled negatives need the scores of all items, but {what} holds what a search found; for a method that "
            "generates, decode exactly (--decoding exact)"
        )
    stream = np.random.default_rng(NEGATIVES_SEED)
    if candidates == "popular99":
        share_U = outcomes["popular_ahead"].to_numpy().astype(np.float64).clip(0, 1)
        return 1 + stream.binomial(NUM_NEGATIVES, share_U)
    ahead_U = outcomes["unseen_rank"].to_numpy().astype(np.int64) - 1
    left_U = outcomes["candidates"].to_numpy().astype(np.int64) - ahead_U
    return 1 + stream.hypergeometric(ahead_U, left_U, np.minimum(NUM_NEGATIVES, ahead_U + left_U))
