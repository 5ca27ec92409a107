"""Which runs stand in a table: one data set, one contract, and of each method and variant the configs asked for.

Shape legend: S seeds, U users.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from results.errors import ResultsError
from results.statistics.metrics.registry import user_values
from results.store.contract import DEFAULTS
from results.store.find import RunFilter, find_runs, known_datasets, refuse_several_datasets
from results.store.labels import told_changes, told_conditions
from results.store.reading import find_readable
from results.store.runs import Run
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
    contract: str | None = None  # or the name of a set of rules (`results.store.contract.NAMED`)
    preset: str | None = None
    mask_history: bool = False  # read as if items of the history took no ranks


@dataclass(frozen=True)
class RowRuns:
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
    def short_label(self) -> str:
        """Where the rows are of one method, or of methods without variants: ETEGRec, or w/o SIA."""
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

    @property
    def owners(self) -> np.ndarray | None:
        """(U,) the user of each case, users ascending; None: each case is of another user."""
        return self.runs[0].owners()

    @property
    def population(self) -> str:
        """Who was judged (`Run.population`)."""
        return self.runs[0].population

    def values(self, metric: str, k: int) -> np.ndarray:
        """(S, U) values of a metric, users ascending; `ResultsError` where the lists are shorter than k."""
        return user_values(rank_matrix(self), metric, k, self.runs[0].list_length)


@dataclass(frozen=True)
class Selection:
    """Groups that may stand in one table, and what the reader must be told about the choice."""

    rows: tuple[RowRuns, ...]
    notes: tuple[str, ...]

    @property
    def dataset_label(self) -> str:
        """The data set as a caption names it."""
        return dataset_label(self.rows[0].record)

    @property
    def seeds_label(self) -> str:
        """The seeds as a caption names them."""
        counts = sorted({len(row.seeds) for row in self.rows})
        least, most = counts[0], counts[-1]
        if most == 1:
            return "one seed each"
        return f"{most} seeds each" if least == most else f"{least} to {most} seeds each"

    @property
    def resampled(self) -> str:
        """What the bootstrap of a figure draws."""
        return "users and seeds" if any(len(row.seeds) > 1 for row in self.rows) else "users"


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
    given: dict[str, Any] = {"method": method, "variant": variant}
    given |= {"contract": filters.contract, "preset": filters.preset}
    runs, readings = find_readable(runs_dir, RunFilter(dataset=dataset, **given), mask_history=filters.mask_history)
    if not runs:
        told = "".join(f", {name} '{value}'" for name, value in given.items() if value is not None)
        known = known_datasets(find_runs(runs_dir))
        raise ResultsError(
            f"a table or figure needs finished runs, but {runs_dir} has none of data set '{dataset}'{told}; "
            f"data sets with finished runs: {', '.join(known) or 'none'}"
        )
    refuse_several_datasets(runs, dataset)
    check_configs(runs_dir, dataset, filters.configs)
    chosen, notes = [], readings
    for candidates in _grouped(runs, lambda record: (record.method, record.variant)).values():
        rows, note = chosen_configs(candidates, filters.configs)
        chosen.extend(rows)
        notes.extend(note)
    refuse_mixture(chosen)
    chosen.sort(key=lambda row: row.place)
    return Selection(tuple(chosen), (*notes, *disclosures(chosen)))


def rank_matrix(group: RowRuns) -> np.ndarray:
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


def check_one_population(groups: Sequence[RowRuns]) -> None:
    """`ResultsError` unless all groups were judged on the same users and targets, which pairing needs."""
    cases = [group.runs[0].ranks(["user", "target"]).sort("user") for group in groups]
    for group, other in zip(groups[1:], cases[1:], strict=True):
        check_same_cases(cases[0], other, groups[0].runs[0], group.runs[0])


def _grouped(runs: Iterable[Run], key: Callable[[RunRecord], Hashable]) -> dict[Hashable, list[Run]]:
    groups: dict[Hashable, list[Run]] = defaultdict(list)
    for run in runs:
        groups[key(run.record)].append(run)
    return groups


def check_configs(runs_dir: Path, dataset: str | None, configs: Sequence[str]) -> None:
    """`ResultsError` for a digest that no run of the data set has, be it the digest of a run that is not shown."""
    digests = [word for word in configs if word not in CONFIG_WORDS]
    runs = find_runs(runs_dir, RunFilter(dataset=dataset)) if digests else []
    known = sorted({run.record.config_digest for run in runs})
    for wanted in digests:
        if not any(digest.startswith(wanted) for digest in known):
            raise ResultsError(
                f"no run has a config that begins with '{wanted}'; known: {', '.join((*CONFIG_WORDS, *known))}"
            )


def chosen_configs(candidates: Sequence[Run], configs: Sequence[str] = ()) -> tuple[list[RowRuns], list[str]]:
    """The groups that `configs` asks for out of the runs of one method and variant, and what the reader must be told.

    The default is the newest that differs from preset and recipe in nothing, or where there is none, the newest.
    """
    by_config = [
        RowRuns(tuple(sorted(runs, key=lambda run: run.record.seed)))
        for runs in _grouped(candidates, lambda record: record.config_digest).values()
    ]
    newest_first = sorted(by_config, key=lambda group: group.created, reverse=True)
    default = next((group for group in newest_first if not group.record.preset_changes), newest_first[0])
    asked: list[RowRuns] = []
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
        f"{group.label}: {told_changes(changes)}."
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


def _labelled(groups: Sequence[RowRuns], *, is_alone: bool) -> list[RowRuns]:
    """The groups with what tells their configs apart: changed fields, precision, device, and the digest where need be.

    Of many changes those that not all groups have are named; where these are many too, all are counted, and not even
    that where no other config was run.
    """
    changed = [group.record.preset_changes or {} for group in groups]
    suffixes = []
    for changes in changed:
        own = {name: value for name, value in changes.items() if any(c.get(name) != value for c in changed)}
        if len(changes) <= SHOWN_CHANGES:
            suffixes.append(f", {told_changes(changes)}" if changes else "")
        elif is_alone or not 0 < len(own) <= SHOWN_CHANGES:  # the note below the table names them
            suffixes.append("" if is_alone else f", {len(changes)} fields changed")
        else:
            suffixes.append(f", {told_changes(own)}")
    if not is_alone:
        suffixes = [suffix + told_conditions(group.record) for group, suffix in zip(groups, suffixes, strict=True)]
    return [
        replace(group, suffix=suffix + (f" ({group.record.config_digest[:8]})" if suffixes.count(suffix) > 1 else ""))
        for group, suffix in zip(groups, suffixes, strict=True)
    ]


def _validation_score(group: RowRuns) -> float:
    """The mean over seeds of the best validation score that a training saw; of what is not trained, none."""
    best = [run.history().filter(pl.col("quantity") == "score")["value"].max() for run in group.runs]
    known = [float(score) for score in best if isinstance(score, float)]
    return sum(known) / len(known) if known else float("-inf")


def refuse_mixture(groups: Sequence[RowRuns]) -> None:
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
    refuse_several_datasets(runs, runs[0].record.dataset)


def _contract_differences(run: Run, runs: Sequence[Run]) -> str:
    """The parts of the run's contract that are not the same in all runs."""
    contract, *others = ({**DEFAULTS, **one.record.contract} for one in (run, *runs))
    names = sorted({name for other in others for name in other})
    differing = [n for n in names if any(other.get(n) != contract.get(n) for other in others)]
    return ", ".join(f"{name}={contract.get(name)}" for name in differing)


def disclosures(rows: Sequence[RowRuns]) -> list[str]:
    """What differs between the rows beyond the method itself, in sentences."""
    values: dict[str, Callable[[RowRuns], str]] = {
        "Seeds differ": lambda row: "seeds " + ", ".join(map(str, row.seeds)),
        "Presets differ": lambda row: row.record.preset,
        "Recipes differ": lambda row: row.record.recipe,
        "Tuning differs": lambda row: f"{row.record.trials} trials",
    }
    notes = []
    for opening, value in values.items():
        labels = _labels_by(rows, lambda row, value=value: [value(row)])  # type: ignore[misc]
        if len(labels) > 1:
            told = "; ".join(f"{shown} ({', '.join(members)})" for shown, members in labels.items())
            notes.append(f"{opening}: {told}.")
    assumptions = _labels_by(rows, lambda row: row.record.assumptions)
    return notes + [f"Assumption: {text} ({', '.join(labels)})." for text, labels in assumptions.items()]


def _labels_by(rows: Sequence[RowRuns], values: Callable[[RowRuns], Iterable[str]]) -> dict[str, list[str]]:
    """The labels of the rows that have each value."""
    labels: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        for value in values(row):
            labels[value].append(row.label)
    return labels


def record_label(record: RunRecord) -> str:
    """ETEGRec, or ETEGRec w/o SIA."""
    return record.title if record.variant == "full" else f"{record.title} {record.variant_title}"


def dataset_label(record: RunRecord) -> str:
    """The data set as a caption names it: made-up data are called so."""
    return f"{record.dataset} (synthetic)" if record.synthetic else record.dataset


def _labels(runs: Iterable[Run]) -> str:
    return ", ".join(dict.fromkeys(record_label(run.record) for run in runs))
