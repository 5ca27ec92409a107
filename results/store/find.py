"""Finding runs: `<runs>/<data set folder>/<method>/<variant>/<config digest>/seed=<n>`.

The data set's folder is `<name>-<first 8 digits of the fingerprint>`, or `<name>` where an earlier version wrote the
run. Which data a run was made from is said by its record, never by its folder.
"""

import logging
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import polars as pl

from results.errors import ResultsError
from results.store.contract import DEFAULTS, NAMED, contract_digest
from results.store.runs import DONE, RANKS, Run, read_run
from results.store.schema import RunRecord

LEAVE_ONE_OUT = "leave-one-out"
SHOWN_DIGITS = 8  # of a fingerprint, enough to tell data sets apart


@dataclass(frozen=True, kw_only=True)
class RunFilter:
    """Which runs are looked for; None: any. `config` and `contract` may be beginnings of digests, `contract` a name.

    `dataset` is a data set's name, `name-<beginning of the fingerprint>`, or the name of its folder.
    """

    dataset: str | None = None
    method: str | None = None
    variant: str | None = None
    config: str | None = None
    seed: int | None = None
    contract: str | None = None
    preset: str | None = None

    def allows_folder(self, folder: Path) -> bool:
        """Whether a run in this folder may be meant, as far as the path tells."""
        dataset, method, variant, config, _ = folder.parts[-5:]
        return (
            (self.dataset is None or _may_hold(dataset, self.dataset))
            and self.method in (None, method)
            and self.variant in (None, variant)
            and (self.config is None or config.startswith(self.config))
            and self.seed in (None, seed_of(folder))
        )

    def allows(self, run: Run) -> bool:
        """Whether the run's record agrees."""
        record = run.record
        by_data = (record.dataset, f"{record.dataset}-{record.dataset_fingerprint}", run.folder.parts[-5])
        return (
            (self.dataset is None or self.dataset in by_data or _begins_fingerprint(self.dataset, record))
            and (self.contract is None or _is_contract(self.contract, record))
            and self.preset in (None, record.preset)
        )


@dataclass(frozen=True)
class UnfinishedRun:
    """A run folder without DONE: still being written, or interrupted. Known by its path alone."""

    folder: Path
    dataset: str
    method: str
    variant: str
    config_digest: str
    seed: int


def find_runs(runs_dir: Path, wanted: RunFilter | None = None) -> list[Run]:
    """The finished runs that match, by path; a damaged one is left out and told in one line, so that it hides none.

    Where one run lies both in a folder of an earlier version and in one of this version, the newest of the two counts.
    """
    wanted = wanted or RunFilter()
    newest: dict[tuple[str, ...], Run] = {}
    for folder in _run_folders(runs_dir, wanted):
        if not (folder / DONE).exists():
            continue
        try:
            run = read_run(folder)
        except ResultsError as error:
            _tell(f"left out: {error}")
            continue
        record = run.record
        row = (*data_of(record), record.method, record.variant, record.config_digest, str(record.seed))
        if wanted.allows(run) and (row not in newest or newest[row].record.created < record.created):
            newest[row] = run
    return list(newest.values())


def find_unfinished(runs_dir: Path, wanted: RunFilter | None = None) -> list[UnfinishedRun]:
    """Run folders without DONE that match, as far as their paths tell."""
    folders = _run_folders(runs_dir, wanted or RunFilter())
    return [_unfinished(folder) for folder in folders if not (folder / DONE).exists()]


def _unfinished(folder: Path) -> UnfinishedRun:
    dataset, method, variant, config_digest, _ = folder.parts[-5:]
    return UnfinishedRun(folder, dataset, method, variant, config_digest, seed_of(folder) or 0)


def data_of(record: RunRecord) -> tuple[str, str]:
    """What tells data sets apart: name and fingerprint."""
    return record.dataset, record.dataset_fingerprint


def without_split(record: RunRecord) -> tuple[str, str]:
    """The data set's name without its split, and the split as `--split` takes it: ml-100k, temporal:0.8,0.9."""
    name, found, argument = record.dataset.rpartition(f"-{record.split}")
    if record.split == LEAVE_ONE_OUT or not found or (argument and not argument.startswith("=")):
        return record.dataset, record.split
    return name, f"{record.split}:{argument[1:].replace('+', ',')}" if argument else record.split


def exact_dataset(record: RunRecord) -> str:
    """What --dataset takes for exactly the data of a run: ratings-1a2b3c4d."""
    return f"{record.dataset}-{record.dataset_fingerprint[:SHOWN_DIGITS]}"


def known_datasets(runs: Iterable[Run]) -> list[str]:
    """What --dataset takes for each data set of the runs: its name, or more where several have that name."""
    records = {data_of(run.record): run.record for run in runs}
    names = [name for name, _ in records]
    return sorted(name if names.count(name) == 1 else exact_dataset(records[name, f]) for name, f in records)


def only_dataset(runs_dir: Path) -> str:
    """The data set that all finished runs are of; `ResultsError` when there are several, or none."""
    runs = find_runs(runs_dir)
    if not runs:
        raise ResultsError(f"a table needs finished runs, but {runs_dir} has none; make some with: harness run")
    names = known_datasets(runs)
    if len(names) == 1:
        return names[0]
    raise ResultsError(f"one data set must be named, but {runs_dir} has runs of {', '.join(names)}; add --dataset NAME")


def refuse_several_datasets(runs: Sequence[Run], name: str) -> None:
    """`ResultsError` unless the runs that a name means are all made from the same data."""
    by_data: dict[tuple[str, str], list[Run]] = defaultdict(list)
    for run in runs:
        by_data[data_of(run.record)].append(run)
    if len(by_data) > 1:
        told = [
            f"{exact_dataset(members[0].record)} ({_num_users(members[0])}, newest run "
            f"{max(run.record.created for run in members)[:16].replace('T', ' ')})"
            for members in by_data.values()
        ]
        first = exact_dataset(next(iter(by_data.values()))[0].record)
        raise ResultsError(
            f"'{name}' must mean one data set, but names {len(by_data)} data sets: {', '.join(sorted(told))}; name one "
            f"of them, for example --dataset {first}"
        )


def seed_of(folder: Path) -> int | None:
    """The seed in the name of a run's folder; None for other folders."""
    text = folder.name.removeprefix("seed=")
    return int(text) if text.isdecimal() else None


def is_named(folder: Path, wanted: Sequence[str]) -> bool:
    """Whether the wanted parts stand side by side in the path of a run's folder, the last of them as a beginning.

    The data set's folder may be named without the fingerprint.
    """
    dataset, *place = folder.parts[-5:]
    *whole, last = wanted
    return any(
        parts[start : start + len(whole)] == whole and parts[start + len(whole)].startswith(last)
        for parts in ([dataset, *place], [_without_fingerprint(dataset), *place])
        for start in range(len(parts) - len(whole))
    )


@cache
def _tell(message: str) -> None:
    """Told once, on stderr unless the program says otherwise: a command searches several times."""
    logging.getLogger("results").warning(message)


def _run_folders(runs_dir: Path, wanted: RunFilter) -> list[Path]:
    """Folders of runs that may match, sorted by path and then by seed as a number."""
    folders = [f for f in runs_dir.glob("*/*/*/*/seed=*") if seed_of(f) is not None and wanted.allows_folder(f)]
    return sorted(folders, key=lambda folder: (folder.parent, seed_of(folder)))


def _may_hold(folder: str, wanted: str) -> bool:
    """Whether a data set's folder may hold the wanted data: a folder without a fingerprint may hold several."""
    name = _without_fingerprint(folder)
    if wanted in (folder, name):
        return True
    begins = folder == name or folder.startswith(wanted) or wanted.startswith(folder)
    return begins and re.fullmatch(re.escape(name) + "-[0-9a-f]+", wanted) is not None


def _without_fingerprint(folder: str) -> str:
    return re.sub(rf"-[0-9a-f]{{{SHOWN_DIGITS}}}$", "", folder)


def _is_contract(wanted: str, record: RunRecord) -> bool:
    """By the beginning of the digest, or by the name of a set of rules; the length of lists may differ."""
    if wanted in NAMED:
        return contract_digest({**DEFAULTS, **NAMED[wanted].values, "top_k": record.contract.get("top_k")}) == (
            record.contract_digest
        )
    return record.contract_digest.startswith(wanted)


def _begins_fingerprint(wanted: str, record: RunRecord) -> bool:
    digits = wanted.removeprefix(f"{record.dataset}-")
    return digits not in ("", wanted) and record.dataset_fingerprint.startswith(digits)


def _num_users(run: Run) -> str:
    try:
        count = pl.scan_parquet(run.folder / RANKS, glob=False).select(pl.len()).collect().item()
        return f"{count:,} {'cases' if run.record.num_users else 'users'}"
    except (pl.exceptions.PolarsError, OSError):
        return "ranks damaged"
