"""A run on disk, written and read.

Files are written to a temporary name and renamed. DONE comes last and lists the size of every file, so that a run
that was interrupted, and a file that was cut short later, are both seen.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from results.errors import ResultsError
from results.store.schema import CASES_SCHEMA, HISTORY_SCHEMA, METRICS_SCHEMA, RANKS_SCHEMA, RunRecord, conform
from results.store.whole_files import whole, write_whole

if TYPE_CHECKING:
    import numpy as np

RECORD = "run.json"
METRICS = "metrics.parquet"
RANKS = "ranks.parquet"
CASES = "cases.parquet"
OUTCOMES = "outcomes.parquet"
HISTORY = "history.parquet"
CONFIG = "config.toml"
ENVIRONMENT = "env.json"
DONE = "DONE"
UNREADABLE = "{path} must be readable, but you may not read it; change its permissions"
STORED_KS = (1, 5, 10, 20)


@dataclass(frozen=True)
class Run:
    """A finished run; its tables are read when asked for."""

    folder: Path
    record: RunRecord

    def metrics(self) -> pl.DataFrame:
        """One row per metric and k (`METRICS_SCHEMA`)."""
        return read_parquet(self.folder / METRICS)

    def stored(self, name: str, k: int) -> float | None:
        """A metric at k as it was stored; None where it was not."""
        found = self.metrics().filter((pl.col("metric") == name) & (pl.col("k") == k))["value"]
        return float(found.item()) if len(found) else None

    def metric(self, name: str, k: int) -> float | None:
        """A metric of whole lists at k, stored or computed from the lists; None where what it needs is not known.

        `ResultsError` for k beyond the lists.
        """
        stored = self.stored(name, k)
        if stored is not None:
            return stored
        if not 1 <= k <= self.list_length:
            raise ResultsError(
                f"1 <= k <= list length must hold, but got {name}@{k} and stored lists of {self.list_length} items; "
                "lower k, or run again with a larger top_k"
            )
        from results.statistics.metrics.registry import metrics_from_lists

        found = metrics_from_lists(self.ranks(["top_items"])["top_items"], [k], num_items=self.record.num_items)
        return next((value.value for value in found if value.metric == name), None)

    def ranks(self, columns: list[str] | None = None) -> pl.DataFrame:
        """One row per user (`RANKS_SCHEMA`), or only the given columns of it."""
        return read_parquet(self.folder / RANKS, columns)

    def cases(self) -> pl.DataFrame:
        """One row per user (`CASES_SCHEMA`): what slices are cut by. `ResultsError` for a run made before they were."""
        return self._later(CASES, "what slices are cut by")

    def owners(self) -> np.ndarray | None:
        """(C,) the number of each case's user, in the order of the cases; None: each case is of another user."""
        return self.cases().sort("user")["owner"].to_numpy() if self.record.num_users else None

    @property
    def population(self) -> str:
        """Who was judged: 943 users, or 10,000 cases of 300 users."""
        count = f"{len(self.ranks(['user'])):,}"
        owners = self.owners()
        return f"{count} users" if owners is None else f"{count} cases of {len(set(owners.tolist())):,} users"

    def outcomes(self) -> pl.DataFrame:
        """One row per user (`OUTCOMES_SCHEMA`); `ResultsError` for a run made before runs kept them."""
        return self._later(OUTCOMES, "what other rules read")

    def _later(self, name: str, what: str) -> pl.DataFrame:
        """A table that runs of earlier versions lack."""
        path = self.folder / name
        if not path.exists():
            raise ResultsError(
                f"{self.folder} has no {name}: it was made before runs kept {what}; give its "
                f"'harness run' command again, which only evaluates anew (delete {DONE} first if the cache is gone)"
            )
        return read_parquet(path)

    def history(self) -> pl.DataFrame:
        """One row per epoch and quantity (`HISTORY_SCHEMA`)."""
        return read_parquet(self.folder / HISTORY)

    def config_text(self) -> str:
        """The run's config.toml."""
        return _read_text(self.folder / CONFIG)

    def environment(self) -> dict[str, Any]:
        """The versions and the machine that the run was made with."""
        return _read_json(self.folder / ENVIRONMENT)

    @property
    def num_bytes(self) -> int:
        """What the run takes on disk, its checkpoint included; that one may share its space with the cache."""
        return sum(path.stat().st_size for path in self.folder.iterdir() if path.is_file())

    @property
    def list_length(self) -> int:
        """Length of the stored ranked lists."""
        return int(self.record.contract["top_k"])


def run_folder(runs_dir: Path, dataset: str, method: str, variant: str, config_digest: str, seed: int) -> Path:
    """Where a run lies."""
    return runs_dir / dataset / method / variant / config_digest / f"seed={seed}"


@dataclass(frozen=True, kw_only=True)
class UserTables:
    """What a run stores of each user."""

    ranks: pl.DataFrame  # `RANKS_SCHEMA`
    cases: pl.DataFrame  # `CASES_SCHEMA`
    outcomes: pl.DataFrame | None = None  # `OUTCOMES_SCHEMA`


def write_run(
    folder: Path,
    record: RunRecord,
    users: UserTables,
    *,
    history: pl.DataFrame,
    config_toml: str,
    env: Mapping[str, Any],
    item_counts: np.ndarray | None = None,
) -> Run:
    """The finished run. A checkpoint is the caller's: written into `folder` before, it is listed in DONE too.

    Metrics are computed here, from the ranks, and from the (N,) training interactions of the items where given. Raises
    `ResultsError` for tables that break their schema, repeated users, lists whose length is not the contract's `top_k`,
    ranks beyond it, and cases or outcomes of other users than the ranks.
    """
    ranks = conform(users.ranks, RANKS_SCHEMA, "ranks")
    _check_ranks(ranks, int(record.contract["top_k"]))
    cases = conform(users.cases, CASES_SCHEMA, "cases")
    if sorted(cases["user"]) != sorted(ranks["user"]):
        raise ResultsError(f"cases must hold the users of the ranks, but {len(cases)} and {len(ranks)} users differ")
    from results.store.outcomes import checked_outcomes  # NumPy, which only writing needs

    outcomes = None if users.outcomes is None else checked_outcomes(users.outcomes, ranks)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / DONE).unlink(missing_ok=True)
    write_whole(folder / CONFIG, config_toml)
    write_whole(folder / ENVIRONMENT, json.dumps(dict(env), indent=1, sort_keys=True) + "\n")
    write_whole(folder / RECORD, json.dumps(asdict(record), indent=1) + "\n")
    write_parquet(folder / RANKS, ranks)
    write_parquet(folder / CASES, cases)
    if outcomes is not None:
        write_parquet(folder / OUTCOMES, outcomes)
    write_parquet(folder / HISTORY, conform(history, HISTORY_SCHEMA, "history"))
    write_parquet(folder / METRICS, metrics_frame(record, ranks, item_counts))
    sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir()) if path.is_file()}
    write_whole(folder / DONE, json.dumps(sizes, indent=1) + "\n")
    return Run(folder, record)


def raise_trials(folder: Path, trials: int) -> Run:
    """The finished run, after its record says that at least so many hyper-parameter trials preceded it."""
    run = read_run(folder)
    if run.record.trials >= trials:
        return run
    record = replace(run.record, trials=trials)
    sizes = _read_json(folder / DONE)
    (folder / DONE).unlink()
    write_whole(folder / RECORD, json.dumps(asdict(record), indent=1) + "\n")
    write_whole(folder / DONE, json.dumps(sizes | {RECORD: (folder / RECORD).stat().st_size}, indent=1) + "\n")
    return Run(folder, record)


def metrics_frame(record: RunRecord, ranks: pl.DataFrame, item_counts: np.ndarray | None = None) -> pl.DataFrame:
    """One row per metric and k, for the usual k that the stored lists can answer."""
    from results.statistics.metrics.registry import metrics_from_lists, metrics_from_ranks  # as in `write_run`

    top_k = int(record.contract["top_k"])
    ks = [k for k in STORED_KS if k <= top_k]
    row = (record.dataset, record.method, record.variant, record.config_digest, record.seed, record.contract_digest)
    values = metrics_from_ranks(ranks["rank"].to_numpy(), ks, list_length=top_k)
    values += metrics_from_lists(ranks["top_items"], ks, num_items=record.num_items, item_counts=item_counts)
    return pl.DataFrame([(*row, *value) for value in values], schema=METRICS_SCHEMA, orient="row")


def read_run(folder: Path) -> Run:
    """The finished run in `folder`; `ResultsError` if it is absent, unfinished, or a file of it is cut short."""
    if not folder.is_dir():
        raise ResultsError(f"{folder} must be a run's folder, but there is no such folder")
    if not (folder / DONE).exists():
        raise ResultsError(f"{folder} is not a finished run: it has no DONE; give the run's command again")
    for name, size in _read_json(folder / DONE).items():
        path = folder / name
        found = path.stat().st_size if path.exists() else None
        if found != size:
            state = "is missing" if found is None else f"has {found:,} bytes instead of {size:,}"
            raise ResultsError(f"{path} {state}; delete the run's folder and run it again")
    path = folder / RECORD
    try:
        return Run(folder, RunRecord.from_json(_read_json(path)))
    except ResultsError as error:
        raise ResultsError(f"{path}: {error}" if str(path) not in str(error) else str(error)) from None


def read_parquet(path: Path, columns: list[str] | None = None) -> pl.DataFrame:
    """A parquet file's table; `ResultsError` names a file that is missing or damaged."""
    try:
        return pl.read_parquet(path, columns=columns, glob=False)  # a name may hold brackets
    except FileNotFoundError:
        raise ResultsError(f"{path} must exist, but it is missing; delete the run's folder and run it again") from None
    except PermissionError:
        raise ResultsError(UNREADABLE.format(path=path)) from None
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ResultsError(
            f"{path} must be a whole parquet file, but it is cut short or damaged ({reason}); delete the run's folder "
            "and run it again"
        ) from None


def _check_ranks(ranks: pl.DataFrame, top_k: int) -> None:
    if ranks["user"].n_unique() != len(ranks):
        raise ResultsError("ranks must hold each user once, but some user is repeated")
    lengths = ranks["top_items"].list.len().unique().to_list()
    if lengths not in ([], [top_k]):
        raise ResultsError(f"every list must hold top_k={top_k} items, but lists of {sorted(lengths)} were found")
    worst = ranks["rank"].max()
    if isinstance(worst, int) and worst > top_k:
        raise ResultsError(f"rank <= top_k must hold (0: not in the list), but got rank={worst}, top_k={top_k}")


def write_parquet(path: Path, frame: pl.DataFrame) -> None:
    """Writes the table as a whole."""
    with whole(path) as temporary:
        frame.write_parquet(temporary)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ResultsError(f"{path} must exist, but it is missing; delete the run's folder and run it again") from None
    except PermissionError:
        raise ResultsError(UNREADABLE.format(path=path)) from None
    except (IsADirectoryError, UnicodeDecodeError):
        raise ResultsError(
            f"{path} must be a text file, but is none; delete the run's folder and run it again"
        ) from None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(_read_text(path))
    except json.JSONDecodeError as error:
        raise ResultsError(
            f"{path}:{error.lineno}: must be whole JSON, but {error.msg}; delete the run's folder and run it again"
        ) from None
    if not isinstance(content, dict):
        raise ResultsError(
            f"{path}: must hold a JSON object, but holds a {type(content).__name__}; delete the run's folder and run "
            "it again"
        )
    return content
