"""Which runs stand in a table: one config per method and variant, one contract, one data set.

Shape legend: S seeds, U users.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from results.errors import ResultsError
from results.store.runs import Run, find_runs
from results.store.schema import RunRecord


@dataclass(frozen=True)
class Group:
    """The runs of one method and variant under one config: one per seed, by seed."""

    runs: tuple[Run, ...]

    @property
    def record(self) -> RunRecord:
        """The first seed's record; everything but seed, times and health is the same in all."""
        return self.runs[0].record

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds, ascending."""
        return tuple(run.record.seed for run in self.runs)


@dataclass(frozen=True)
class Selection:
    """Groups that may stand in one table, and what the reader must be told about the choice."""

    groups: tuple[Group, ...]
    notes: tuple[str, ...]


def select_runs(
    runs_dir: Path,
    dataset: str,
    *,
    method: str | None = None,
    variant: str | None = None,
    configs: Collection[str] = (),
    contract: str | None = None,
    preset: str | None = None,
) -> Selection:
    """The groups of a data set's runs, one config each.

    Where a method and variant were run under several configs, the most recent is taken, or the one that `configs`
    (beginnings of digests) names; a note says so. Raises `ResultsError` when nothing matches, and when the chosen
    runs were judged under different contracts or made from different data.
    """
    runs = find_runs(runs_dir, dataset=dataset, method=method, variant=variant, contract=contract, preset=preset)
    if not runs:
        filters = {"method": method, "variant": variant, "contract": contract, "preset": preset}
        given = "".join(f", {name} '{value}'" for name, value in filters.items() if value is not None)
        known = sorted({run.record.dataset for run in find_runs(runs_dir)})
        raise ResultsError(
            f"a table or figure needs finished runs, but {runs_dir} has none of data set '{dataset}'{given}; "
            f"data sets with finished runs: {', '.join(known) or 'none'}"
        )
    _check_configs(runs, configs)
    groups, notes = [], []
    for candidates in _grouped(runs, lambda record: (record.method, record.variant)).values():
        group, note = one_config(candidates, configs)
        groups.append(group)
        notes.extend(note)
    refuse_mixture(groups)
    return Selection(tuple(groups), (*notes, *disclosures(groups)))


def rank_matrix(group: Group) -> np.ndarray:
    """(S, U) uint32 ranks, users ascending; `ResultsError` if the seeds were judged on different users or targets."""
    tables = [run.ranks(["user", "target", "rank"]).sort("user") for run in group.runs]
    first = tables[0].select("user", "target")
    for run, table in zip(group.runs, tables, strict=True):
        check_same_cases(first, table.select("user", "target"), group.runs[0], run)
    return np.stack([table["rank"].to_numpy() for table in tables])


def check_same_cases(first: pl.DataFrame, second: pl.DataFrame, first_run: Run, second_run: Run) -> None:
    """`ResultsError` unless both tables hold the same users and targets."""
    if not first.equals(second):
        raise ResultsError(
            f"runs that stand side by side must be judged on the same users and targets, but {first_run.folder} and "
            f"{second_run.folder} differ; run the older one again"
        )


def _grouped(runs: Iterable[Run], key: Callable[[RunRecord], Hashable]) -> dict[Hashable, list[Run]]:
    groups: dict[Hashable, list[Run]] = defaultdict(list)
    for run in runs:
        groups[key(run.record)].append(run)
    return groups


def _check_configs(runs: Sequence[Run], configs: Collection[str]) -> None:
    digests = sorted({run.record.config_digest for run in runs})
    for prefix in configs:
        if not any(digest.startswith(prefix) for digest in digests):
            raise ResultsError(f"no run has a config that begins with '{prefix}'; known: {', '.join(digests)}")


def one_config(candidates: Sequence[Run], configs: Collection[str] = ()) -> tuple[Group, list[str]]:
    """The runs of one config out of those of one method and variant, and a note where there was a choice."""
    by_config = _grouped(candidates, lambda record: record.config_digest)
    named = [digest for digest in by_config if any(str(digest).startswith(prefix) for prefix in configs)]
    label = record_label(candidates[0].record)
    if len(named) > 1:
        raise ResultsError(
            f"one config per row must be named, but {label} has {', '.join(map(str, named))}; name one of them"
        )
    newest = max(by_config, key=lambda digest: max(run.record.created for run in by_config[digest]))
    chosen = named[0] if named else newest
    group = Group(tuple(sorted(by_config[chosen], key=lambda run: run.record.seed)))
    if len(by_config) == 1:
        return group, []
    why = "as asked" if named else "the most recent"
    return group, [f"{label}: {len(by_config)} configs were run; shown is {chosen}, {why}."]


def refuse_mixture(groups: Sequence[Group]) -> None:
    """`ResultsError` unless all groups were judged under one contract and made from the same data."""
    runs = [run for group in groups for run in group.runs]
    contracts = _grouped(runs, lambda record: record.contract_digest)
    if len(contracts) > 1:
        sides = "; ".join(
            f"{digest} ({_contract_differences(members[0], runs)}): {_labels(members)}"
            for digest, members in contracts.items()
        )
        raise ResultsError(
            f"runs that stand side by side must be judged under one contract, but there are {len(contracts)}: {sides}; "
            "keep one with --contract DIGEST"
        )
    fingerprints = _grouped(runs, lambda record: record.dataset_fingerprint)
    if len(fingerprints) > 1:
        sides = "; ".join(f"{fingerprint}: {_labels(members)}" for fingerprint, members in fingerprints.items())
        raise ResultsError(
            f"runs that stand side by side must be made from the same data, but '{runs[0].record.dataset}' has "
            f"{len(fingerprints)} fingerprints: {sides}; run the older ones again, or keep them in another runs folder"
        )


def _contract_differences(run: Run, runs: Sequence[Run]) -> str:
    """The parts of the run's contract that are not the same in all runs."""
    contract = run.record.contract
    names = sorted({name for other in runs for name in other.record.contract})
    differing = [n for n in names if any(other.record.contract.get(n) != contract.get(n) for other in runs)]
    return ", ".join(f"{name}={contract.get(name)}" for name in differing)


def disclosures(groups: Sequence[Group]) -> list[str]:
    """What differs between the rows beyond the method itself, in sentences."""
    notes = []
    if len({group.seeds for group in groups}) > 1:
        notes.append("Seeds differ: " + _by_value(groups, lambda g: "seeds " + ", ".join(map(str, g.seeds))) + ".")
    if len({group.record.preset for group in groups}) > 1:
        notes.append("Presets differ: " + _by_value(groups, lambda g: g.record.preset) + ".")
    if len({group.record.recipe for group in groups}) > 1:
        notes.append("Recipes differ: " + _by_value(groups, lambda g: g.record.recipe) + ".")
    if len({group.record.trials for group in groups}) > 1:
        notes.append("Tuning differs: " + _by_value(groups, lambda g: f"{g.record.trials} trials") + ".")
    assumptions: dict[str, list[str]] = defaultdict(list)
    for group in groups:
        for assumption in group.record.assumptions:
            assumptions[assumption].append(record_label(group.record))
    notes.extend(f"Assumption: {text} ({', '.join(labels)})." for text, labels in assumptions.items())
    return notes


def _by_value(groups: Sequence[Group], value: Callable[[Group], str]) -> str:
    labels: dict[str, list[str]] = defaultdict(list)
    for group in groups:
        labels[value(group)].append(record_label(group.record))
    return "; ".join(f"{shown} ({', '.join(members)})" for shown, members in labels.items())


def record_label(record: RunRecord) -> str:
    """ETEGRec, or ETEGRec w/o SIA."""
    return record.title if record.variant == "full" else f"{record.title} {record.variant_title}"


def _labels(runs: Iterable[Run]) -> str:
    return ", ".join(dict.fromkeys(record_label(run.record) for run in runs))
