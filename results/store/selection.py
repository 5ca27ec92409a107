"""Which runs stand in a table: one data set, one contract, and of each method and variant the configs asked for.

Shape legend: S seeds, U users.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from results.errors import ResultsError
from results.store.runs import Run, find_runs
from results.store.schema import RunRecord

CONFIG_WORDS = DEFAULT, ALL, BEST = "default", "all", "best"  # beside beginnings of digests
SHOWN_CHANGES = 2  # fields that a label names; of more it only gives the number


@dataclass(frozen=True)
class Filters:
    """Which runs count: by beginnings of digests, by preset, and by config.

    `configs` holds `default` (as if empty: the row of preset and recipe alone), `all`, `best` (by the stored validation
    score), or beginnings of digests; a method and variant that has none of the named ones shows its default.
    """

    configs: tuple[str, ...] = ()
    contract: str | None = None
    preset: str | None = None


@dataclass(frozen=True)
class Group:
    """The runs of one method and variant under one config: one per seed, by seed."""

    runs: tuple[Run, ...]
    suffix: str = ""  # of its label: what tells its config from the default

    @property
    def record(self) -> RunRecord:
        """The first seed's record; everything but seed, times and health is the same in all."""
        return self.runs[0].record

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds, ascending."""
        return tuple(run.record.seed for run in self.runs)

    @property
    def label(self) -> str:
        """ETEGRec, ETEGRec w/o SIA, or SASRec, epochs=15: where methods and variants stand together."""
        return record_label(self.record) + self.suffix

    @property
    def method_label(self) -> str:
        """As the table of methods names it."""
        return self.record.title + self.suffix

    @property
    def variant_label(self) -> str:
        """As the table of a method's variants names it: ETEGRec, or w/o SIA."""
        record = self.record
        return (record.title if record.variant == "full" else record.variant_title) + self.suffix

    @property
    def place(self) -> tuple[Any, ...]:
        """Sort key: the methods' own places, then titles; a method's variants in the order of their table."""
        record = self.record
        place = float("inf") if record.place is None else record.place
        return (place, record.title, record.variant_place, record.variant, self.suffix)

    @property
    def created(self) -> str:
        """When its newest run was made."""
        return max(run.record.created for run in self.runs)


@dataclass(frozen=True)
class Selection:
    """Groups that may stand in one table, and what the reader must be told about the choice."""

    groups: tuple[Group, ...]
    notes: tuple[str, ...]


def select_runs(
    runs_dir: Path,
    dataset: str,
    filters: Filters | None = None,
    *,
    method: str | None = None,
    variant: str | None = None,
) -> Selection:
    """The groups of a data set's runs, in the order of a table's rows.

    `dataset` is a name, with a dash and the beginning of its fingerprint where data of one name differ. Raises
    `ResultsError` when nothing matches, when the name means several data sets, and when the chosen runs were judged
    under different contracts.
    """
    filters = filters or Filters()
    place: dict[str, Any] = {"method": method, "variant": variant}
    place |= {"contract": filters.contract, "preset": filters.preset}
    runs = find_runs(runs_dir, dataset=dataset, **place)
    if not runs:
        given = "".join(f", {name} '{value}'" for name, value in place.items() if value is not None)
        known = sorted({run.record.dataset for run in find_runs(runs_dir)})
        raise ResultsError(
            f"a table or figure needs finished runs, but {runs_dir} has none of data set '{dataset}'{given}; "
            f"data sets with finished runs: {', '.join(known) or 'none'}"
        )
    runs = each_once(runs)
    refuse_several_datasets(runs)
    _check_configs(runs, filters.configs)
    groups, notes = [], []
    for candidates in _grouped(runs, lambda record: (record.method, record.variant)).values():
        rows, note = chosen_configs(candidates, filters.configs)
        groups.extend(rows)
        notes.extend(note)
    refuse_mixture(groups)
    groups.sort(key=lambda group: group.place)
    return Selection(tuple(groups), (*notes, *disclosures(groups)))


def each_once(runs: Sequence[Run]) -> list[Run]:
    """The runs, of those of the same row and seed (from folders of two versions, say) the newest."""
    newest: dict[Hashable, Run] = {}
    for run in sorted(runs, key=lambda run: run.record.created):
        r = run.record
        newest[r.dataset_fingerprint, r.method, r.variant, r.config_digest, r.seed] = run
    return [run for run in runs if run in newest.values()]


def refuse_several_datasets(runs: Sequence[Run]) -> None:
    """`ResultsError` when runs of one name were made from different data; it says how to name one of them."""
    by_fingerprint = _grouped(runs, lambda record: record.dataset_fingerprint)
    if len(by_fingerprint) > 1:
        names = {
            f"{members[0].record.dataset}-{str(fingerprint)[:8]}": Group(tuple(members)).created
            for fingerprint, members in by_fingerprint.items()
        }
        told = ", ".join(f"{name} (newest run {created})" for name, created in names.items())
        newest = max(names, key=lambda name: names[name])
        raise ResultsError(
            f"runs that stand side by side must be made from the same data, but '{runs[0].record.dataset}' names "
            f"{len(names)} data sets: {told}; name one of them, for example --dataset {newest}"
        )


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


def check_one_population(groups: Sequence[Group]) -> None:
    """`ResultsError` unless all groups were judged on the same users and targets, which pairing needs."""
    cases = [group.runs[0].ranks(["user", "target"]).sort("user") for group in groups]
    for group, other in zip(groups[1:], cases[1:], strict=True):
        check_same_cases(cases[0], other, groups[0].runs[0], group.runs[0])


def _grouped(runs: Iterable[Run], key: Callable[[RunRecord], Hashable]) -> dict[Hashable, list[Run]]:
    groups: dict[Hashable, list[Run]] = defaultdict(list)
    for run in runs:
        groups[key(run.record)].append(run)
    return groups


def _check_configs(runs: Sequence[Run], configs: Sequence[str]) -> None:
    digests = sorted({run.record.config_digest for run in runs})
    for word in configs:
        if word not in CONFIG_WORDS and not any(digest.startswith(word) for digest in digests):
            raise ResultsError(
                f"no run has a config that begins with '{word}'; known: {DEFAULT}, {ALL}, {BEST}, {', '.join(digests)}"
            )


def chosen_configs(candidates: Sequence[Run], configs: Sequence[str] = ()) -> tuple[list[Group], list[str]]:
    """The groups that `configs` asks for out of the runs of one method and variant, and what the reader must be told.

    The default is the newest that differs from preset and recipe in nothing, or where there is none, the newest.
    """
    by_config = [
        Group(tuple(sorted(runs, key=lambda run: run.record.seed)))
        for runs in _grouped(candidates, lambda record: record.config_digest).values()
    ]
    newest_first = sorted(by_config, key=lambda group: group.created, reverse=True)
    default = next((group for group in newest_first if not group.record.preset_changes), newest_first[0])
    asked: list[Group] = []
    for word in configs:
        if word == ALL:
            asked += newest_first
        elif word == BEST:
            asked.append(max(newest_first, key=_validation_score))
        elif word != DEFAULT:
            asked += [group for group in newest_first if group.record.config_digest.startswith(word)]
        else:
            asked.append(default)
    shown = [group for group in newest_first if group in (asked or [default])]
    shown = _labelled(shown, is_alone=len(by_config) == 1)
    notes = [
        f"{group.label}: {_told(changes)}."
        for group in shown
        if len(changes := group.record.preset_changes or {}) > SHOWN_CHANGES
    ]
    if len(shown) < len(by_config):
        digests = ", ".join(group.record.config_digest for group in shown)
        is_choice = any(word != DEFAULT for word in configs) and bool(asked)
        why = "as asked" if is_choice else "the most recent" if default.record.preset_changes else "the default"
        notes.append(
            f"{record_label(default.record)}: {len(by_config)} configs were run; shown is {digests}, {why}; "
            "--configs all shows all."
        )
    return shown, notes


def _labelled(groups: Sequence[Group], *, is_alone: bool) -> list[Group]:
    """The groups with what tells their configs apart: the changed fields, and the digest where these do not.

    Many changes are counted, and not even that where no other config was run.
    """
    suffixes = []
    for group in groups:
        changes = group.record.preset_changes or {}
        if len(changes) <= SHOWN_CHANGES:
            suffixes.append(f", {_told(changes)}" if changes else "")
        else:  # the note below the table names them
            suffixes.append("" if is_alone else f", {len(changes)} fields changed")
    return [
        replace(group, suffix=suffix + (f" ({group.record.config_digest[:8]})" if suffixes.count(suffix) > 1 else ""))
        for group, suffix in zip(groups, suffixes, strict=True)
    ]


def _told(changes: dict[str, Any]) -> str:
    """`epochs=15, softmax=sampled`."""
    return ", ".join(
        f"{name}={value if isinstance(value, str) else 'none' if value is None else json.dumps(value)}"
        for name, value in changes.items()
    )


def _validation_score(group: Group) -> float:
    """The mean over seeds of the best validation score that a training saw; of what is not trained, none."""
    best = [run.history().filter(pl.col("quantity") == "score")["value"].max() for run in group.runs]
    known = [float(score) for score in best if isinstance(score, float)]
    return sum(known) / len(known) if known else float("-inf")


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
    refuse_several_datasets(runs)


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
            assumptions[assumption].append(group.label)
    notes.extend(f"Assumption: {text} ({', '.join(labels)})." for text, labels in assumptions.items())
    return notes


def _by_value(groups: Sequence[Group], value: Callable[[Group], str]) -> str:
    labels: dict[str, list[str]] = defaultdict(list)
    for group in groups:
        labels[value(group)].append(group.label)
    return "; ".join(f"{shown} ({', '.join(members)})" for shown, members in labels.items())


def record_label(record: RunRecord) -> str:
    """ETEGRec, or ETEGRec w/o SIA."""
    return record.title if record.variant == "full" else f"{record.title} {record.variant_title}"


def _labels(runs: Iterable[Run]) -> str:
    return ", ".join(dict.fromkeys(record_label(run.record) for run in runs))
