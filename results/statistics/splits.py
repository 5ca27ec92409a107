"""How the order of methods moves between splits of one data set.

Values of different splits are of other cases and other training sequences, so only orders are compared. Shape legend:
M methods that ran under every split, P splits, R random draws, U users.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path

import numpy as np

from results.errors import ResultsError
from results.statistics.audit import agreement
from results.statistics.inference import (
    ALPHA,
    Interval,
    bootstrap_means,
    by_user,
    holm,
    mean_over_seeds,
    paired_t_test,
)
from results.store.find import LEAVE_ONE_OUT, RunFilter, data_of, exact_dataset, find_runs, without_split
from results.store.schema import RunRecord
from results.store.selection import Filters, RowRuns, Selection, check_one_population, select_runs


@dataclass(frozen=True)
class SplitRows:
    """A split, and the rows of the overall table under it."""

    name: str  # as --split takes it
    rows: tuple[RowRuns, ...]
    notes: tuple[str, ...]

    @property
    def record(self) -> RunRecord:
        """Of the first row."""
        return self.rows[0].record


@dataclass(frozen=True)
class SplitOrders:
    """The methods of one data set under several splits, in one metric."""

    dataset: str
    metric: str
    k: int
    splits: tuple[SplitRows, ...]
    notes: tuple[str, ...] = ()

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Of all methods, in the order of the tables."""
        rows = {row.label: row for split in self.splits for row in split.rows}
        return tuple(sorted(rows, key=lambda label: rows[label].place))

    @cached_property
    def shared(self) -> tuple[str, ...]:
        """Of the M methods that ran under every split; only these have a place."""
        return tuple(label for label in self.labels if all(label in _by_label(split) for split in self.splits))

    @cached_property
    def values_MP(self) -> np.ndarray:
        """Means over cases and seeds, of the shared methods."""
        return np.array([[self.value(label, split) for split in self.splits] for label in self.shared])

    def value(self, label: str, split: SplitRows) -> float:
        """The mean of a method under a split; nan where it did not run."""
        row = _by_label(split).get(label)
        return float("nan") if row is None else float(row.values(self.metric, self.k).mean())

    @cached_property
    def places_MP(self) -> np.ndarray:
        """1: the best of the shared methods; equal values share the better place."""
        return 1 + (self.values_MP[None] > self.values_MP[:, None]).sum(axis=1)

    @cached_property
    def tau_PP(self) -> list[list[Interval]]:
        """Kendall's tau-b of the orders under each pair of splits, and its 95 % interval (`bootstrap_means`).

        Each split's users are drawn on their own, although some may be the same people. Nan where all methods tie.
        """
        drawn_PRM = [self._drawn(split, np.random.default_rng(place)) for place, split in enumerate(self.splits)]
        splits = range(len(self.splits))
        return [[self._tau(first, second, drawn_PRM) for second in splits] for first in splits]

    def _drawn(self, split: SplitRows, random: np.random.Generator) -> np.ndarray:
        rows = [_by_label(split)[label] for label in self.shared]
        return bootstrap_means([row.values(self.metric, self.k) for row in rows], random, rows[0].owners)

    def _tau(self, first: int, second: int, drawn_PRM: Sequence[np.ndarray]) -> Interval:
        tau = agreement(self.values_MP[:, first], self.values_MP[:, second])
        if first == second:
            return Interval(tau, tau, tau)
        pairs = zip(drawn_PRM[first], drawn_PRM[second], strict=True)
        drawn = np.array([agreement(one, other) for one, other in pairs])
        known = drawn[~np.isnan(drawn)]
        low, high = np.quantile(known, [0.025, 0.975]) if len(known) else (np.nan, np.nan)
        return Interval(tau, float(low), float(high))

    def swapped(self, first: int, second: int) -> list[tuple[str, str]]:
        """The pairs of methods that stand the other way round, the better one under the first split first."""
        signs = [np.sign(values_M[:, None] - values_M) for values_M in self.values_MP.T[[first, second]]]
        return [(self.shared[i], self.shared[j]) for i, j in np.argwhere((signs[0] > 0) & (signs[1] < 0))]

    @cached_property
    def told_apart(self) -> list[set[frozenset[str]]]:
        """For each split, the pairs of methods whose gap the sampling of users does not explain.

        Paired t-test, p < `ALPHA` by Holm's method over the pairs of the split.
        """
        return [self._told_apart(split) for split in self.splits]

    def _told_apart(self, split: SplitRows) -> set[frozenset[str]]:
        rows = _by_label(split)
        values = {label: rows[label].values(self.metric, self.k) for label in self.shared}
        of_users = {label: by_user(mean_over_seeds(v), rows[label].owners) for label, v in values.items()}
        pairs = list(combinations(self.shared, 2))
        p_values = holm(np.array([paired_t_test(of_users[a], of_users[b]).p_value for a, b in pairs]))
        return {frozenset(pair) for pair, p_value in zip(pairs, p_values, strict=True) if p_value < ALPHA}


def split_orders(
    runs_dir: Path, dataset: str | None, filters: Filters | None = None, metric: str = "NDCG", k: int = 10
) -> SplitOrders:
    """The unchanged methods of a data set under each of its splits that has finished runs.

    `dataset` is the name without a split, or several names with commas between, which are taken as they are. Raises
    `ResultsError` for fewer than two splits, for data that are not the same, for other contracts, and for fewer than
    two methods under all.
    """
    filters = filters or Filters()
    if dataset is not None and "," in dataset:
        names = [name.strip() for name in dataset.split(",") if name.strip()]
        chosen = [select_runs(runs_dir, name, filters, variant="full") for name in names]
        original = " and ".join(dict.fromkeys(without_split(one.rows[0].record)[0] for one in chosen))
    else:
        original, records = _splits_of(runs_dir, dataset, filters)
        chosen = [select_runs(runs_dir, exact_dataset(record), filters, variant="full") for record in records]
    splits = _named(chosen)
    _refuse_other_contracts(splits)
    for split in splits:
        check_one_population(split.rows)
    found = SplitOrders(original, metric, k, splits, tuple(_differing_data(splits)))
    if len(found.shared) < 2:
        told = "; ".join(f"{split.name}: {', '.join(_by_label(split))}" for split in splits)
        raise ResultsError(
            f"orders need two methods that ran under every split, but there are {len(found.shared)} ({told}); run the "
            "same methods with the same settings under each"
        )
    return found


def whole_of(record: RunRecord) -> str:
    """The fingerprint of the data before any split; empty where it is not known."""
    return record.whole or (record.dataset_fingerprint if record.split == LEAVE_ONE_OUT else "")


def _by_label(split: SplitRows) -> dict[str, RowRuns]:
    return {row.label: row for row in split.rows}


def _splits_of(runs_dir: Path, dataset: str | None, filters: Filters) -> tuple[str, list[RunRecord]]:
    """The name without a split, and a record of each split of that data that has runs, leave-one-out first."""
    runs = find_runs(runs_dir, RunFilter(preset=filters.preset, variant="full"))
    by_data = {data_of(run.record): run.record for run in runs}
    originals = sorted({without_split(record)[0] for record in by_data.values()})
    wanted = {dataset, *(without_split(r)[0] for r in by_data.values() if dataset in (r.dataset, exact_dataset(r)))}
    if dataset is None and len(originals) == 1:
        wanted = set(originals)
    records = [record for record in by_data.values() if without_split(record)[0] in wanted]
    known = ", ".join(originals) or "none"
    if not records:
        what = "be named with --dataset" if dataset is None else f"have finished runs, but '{dataset}' has none"
        raise ResultsError(f"the data set whose splits are compared must {what}; known in {runs_dir}: {known}")
    name = without_split(records[0])[0]
    names = [without_split(record)[1] for record in records]
    wholes = {whole_of(record) for record in records} - {""}
    if len(wholes) > 1 or len(set(names)) < len(names):
        told = ", ".join(f"{exact_dataset(record)} ({split})" for record, split in zip(records, names, strict=True))
        raise ResultsError(
            f"splits that are compared must be of the same data, but runs of '{name}' are of different ones: {told}; "
            "name those to compare: --dataset A,B"
        )
    if len(records) == 1:
        raise ResultsError(
            f"orders need runs under two splits, but '{name}' has them under {names[0]} alone; make others with: "
            f"harness run --dataset {name} --split {'temporal:0.9' if names[0] == LEAVE_ONE_OUT else LEAVE_ONE_OUT}"
        )
    return name, sorted(records, key=lambda record: (record.split != LEAVE_ONE_OUT, record.dataset))


def _named(chosen: Sequence[Selection]) -> tuple[SplitRows, ...]:
    """The selections under their splits' names; under their data sets' where these do not tell them apart."""
    records = [one.rows[0].record for one in chosen]
    spellings = [
        [without_split(r)[1] for r in records],
        [r.dataset for r in records],
        list(map(exact_dataset, records)),
    ]
    names = next((names for names in spellings if len(set(names)) == len(names)), [])
    if len(names) < 2:
        raise ResultsError(f"orders need runs under two splits, but got {', '.join(spellings[-1])}; name two data sets")
    return tuple(SplitRows(name, one.rows, one.notes) for name, one in zip(names, chosen, strict=True))


def _differing_data(splits: Sequence[SplitRows]) -> list[str]:
    """A note where splits that were named are of different data."""
    if len({whole_of(split.record) for split in splits} - {""}) < 2:
        return []
    told = ", ".join(
        f"{split.name}: {exact_dataset(split.record)}, {split.record.num_items:,} items" for split in splits
    )
    return [f"Not of the same data before the split: {told}."]


def _refuse_other_contracts(splits: Sequence[SplitRows]) -> None:
    contracts = [split.record.contract_digest for split in splits]
    if len(set(contracts)) > 1:
        told = ", ".join(f"{split.name} {contract}" for split, contract in zip(splits, contracts, strict=True))
        raise ResultsError(
            f"orders under splits must be judged under one contract, but have {told}; keep one with --contract DIGEST"
        )
