"""One method against another on the same users: how much, how sure, how large, and what would settle it.

Users are paired, and a user's value is averaged over the seeds and summed over the user's cases first (see
`results.statistics.inference`). Each of the three tests is
corrected by Holm's method over all questions that are asked at once: the metrics shown, times the rivals if there are
several. The paired t-test decides the verdict, as it decides the stars of the tables; the others stand by it.

Shape legend: S seeds, U users.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from results.errors import ResultsError
from results.statistics.inference import (
    ALPHA,
    Effect,
    Interval,
    bootstrap_difference,
    by_user,
    effect,
    fixed_random,
    holm,
    mean_over_seeds,
    paired_t_test,
    permutation_test,
    seeds_needed,
    std_over_seeds,
    users_needed,
    wilcoxon_test,
)
from results.store.find import RunFilter, exact_dataset, is_named, refuse_several_datasets
from results.store.reading import find_readable
from results.store.schema import RunRecord
from results.store.selection import (
    Filters,
    RowRuns,
    check_configs,
    check_one_population,
    chosen_configs,
    disclosures,
    record_label,
    refuse_mixture,
    select_runs,
)
from results.tables.content import DECIMALS
from results.tables.lines import MetricColumn
from results.tables.performance import PAPER_COLUMNS

PRIMARY: MetricColumn = ("NDCG", 10)  # what the verdict is about, where it is among the metrics shown

Sign = Literal["better", "worse", "undecided"]


class PValues(NamedTuple):
    """The p-values of the three tests."""

    t_test: float
    wilcoxon: float
    permutation: float


@dataclass(frozen=True)
class MetricComparison:
    """Two methods in one metric."""

    metric: str
    k: int
    first: float
    second: float
    difference: Interval  # first - second, 95 %, over users and, on a side with several, over seeds
    effect: Effect
    p_values: PValues
    adjusted: PValues  # by Holm's method, each test on its own
    users_needed: int | None  # for a gap of this size; None: there is no gap
    seeds_needed: int | None  # on either side; None: unknown, since a side has one seed, or there is no gap

    @property
    def name(self) -> str:
        """NDCG@10."""
        return f"{self.metric}@{self.k}"

    @property
    def sign(self) -> Sign:
        """What the paired t-test says of the first side."""
        if self.adjusted.t_test >= ALPHA:
            return "undecided"
        return "better" if self.difference.mean > 0 else "worse"


@dataclass(frozen=True)
class Comparison:
    """Two methods in all metrics shown, the primary one in `verdict`."""

    dataset: str
    synthetic: bool
    num_users: int
    num_cases: int  # more than users where a user has several
    first: str
    second: str
    first_seeds: tuple[int, ...]
    second_seeds: tuple[int, ...]
    metrics: tuple[MetricComparison, ...]
    num_questions: int  # the size of the family that p-values are adjusted over
    notes: tuple[str, ...] = ()

    @property
    def primary(self) -> MetricComparison:
        """The metric that the verdict is about: NDCG@10, or the first one where it is not shown."""
        return next((metric for metric in self.metrics if (metric.metric, metric.k) == PRIMARY), self.metrics[0])

    @property
    def population(self) -> str:
        """On whom they were compared, as `Run.population` says it."""
        users = f"{self.num_users:,} users"
        return users if self.num_cases == self.num_users else f"{self.num_cases:,} cases of {users}"

    @property
    def verdict(self) -> str:
        """What can be said, in one plain sentence."""
        metric = self.primary
        gap = abs(metric.difference.mean)
        size = f"{gap:.{DECIMALS}f}" + (f" ({metric.effect.gain:+.1%})" if metric.effect.gain is not None else "")
        size = size.replace("%", " %")
        seeds = self._seeds_clause(metric)
        p_value = shown_p(metric.adjusted.t_test)
        if metric.sign == "undecided":
            low, high = metric.difference.low, metric.difference.high
            needed = (
                "" if metric.users_needed is None else f"; about {metric.users_needed:,} users would tell such a gap"
            )
            return (
                f"No difference can be told between {self.first} and {self.second} in {metric.name}: the gap of {size} "
                f"may come from the sampling of users (p {p_value}, interval {low:+.{DECIMALS}f} to "
                f"{high:+.{DECIMALS}f}){needed}; {seeds}."
            )
        return (
            f"{self.first} is {metric.sign} than {self.second} in {metric.name} by {size}, a gap that the sampling of "
            f"users does not explain (p {p_value}); {seeds}."
        )

    def _seeds_clause(self, metric: MetricComparison) -> str:
        """What the seeds allow to say of the randomness of training."""
        single = [
            name
            for name, seeds in ((self.first, self.first_seeds), (self.second, self.second_seeds))
            if len(seeds) == 1
        ]
        if len(single) == 2:
            return "with one seed each, the randomness of training is not measured"
        if single:
            return f"with one seed of {single[0]}, the randomness of training is not measured there"
        holds_zero = metric.difference.low <= 0 <= metric.difference.high
        seeds = f"over {len(self.first_seeds)} and {len(self.second_seeds)} seeds"
        if metric.sign != "undecided" and holds_zero:
            return (
                f"but {seeds} the interval over users and seeds holds 0, so the randomness of training may explain it"
            )
        return f"{seeds}, the interval over users and seeds {'holds' if holds_zero else 'does not hold'} 0"


def compare(
    runs_dir: Path,
    first: str,
    second: str | None = None,
    filters: Filters | None = None,
    *,
    dataset: str | None = None,
    columns: Sequence[MetricColumn] = PAPER_COLUMNS,
) -> list[Comparison]:
    """The first method against the second one; without a second, against each one that stands in a table with it.

    Those are the other unchanged methods for an unchanged method, and the method's other variants for a variant. A
    name is `method` (unchanged), `method/variant`, or parts of a run's path side by side, the last as a beginning.
    Where `filters` choose several configs, the first side is the default row, and each other row is a rival.
    `ResultsError` when a name means no runs or several methods, and for runs of other data or another contract.
    """
    filters = filters or Filters()
    check_configs(runs_dir, dataset, filters.configs)
    rows, notes = named_rows(runs_dir, first, filters, dataset=dataset)
    ours = min(rows, key=lambda row: bool(row.record.preset_changes))
    if second is not None:
        found, rival_notes = named_rows(runs_dir, second, filters, dataset=dataset)
        rivals = [row for row in found if not _share_runs(ours, row)]
        if not rivals:
            raise ResultsError(f"the two sides must be different runs, but both are {ours.label}; name another")
        notes = notes + rival_notes + disclosures([ours, *rivals])
    else:
        rivals, rival_notes = _table_mates(runs_dir, ours, filters)
        notes = notes + rival_notes
    for rival in rivals:
        _refuse_unlike(ours, rival)
    bare = [_compared(ours, rival, columns, tuple(dict.fromkeys(notes))) for rival in rivals]
    return _adjusted(bare)


def named_rows(
    runs_dir: Path, name: str, filters: Filters, *, dataset: str | None = None
) -> tuple[list[RowRuns], list[str]]:
    """The rows that a name means, one per chosen config with all its seeds, and a note where others are not shown."""
    wanted = RunFilter(dataset=dataset, contract=filters.contract, preset=filters.preset)
    runs, readings = find_readable(runs_dir, wanted, mask_history=filters.mask_history)
    inside = Path(name).is_relative_to(runs_dir)
    parts = Path(name).relative_to(runs_dir).parts if inside else tuple(name.strip("/").split("/"))
    asked = tuple(part.casefold() for part in (parts if len(parts) == 2 else (*parts, "full")))
    printed = name.casefold()
    found = [run for run in runs if asked in _names(run.record) or record_label(run.record).casefold() == printed]
    for part in ((*parts, ""), parts):  # whole names before beginnings of names
        found = found or [run for run in runs if is_named(run.folder, part)]
    if not found:
        where = f"{runs_dir}" + (f" of data set '{dataset}'" if dataset else "")
        known = sorted({f"{run.record.method}/{run.record.variant}" for run in runs})
        raise ResultsError(f"no finished run in {where} is named '{name}'; known: {', '.join(known) or 'none'}")
    refuse_several_datasets(found, name)
    methods = sorted({f"{run.record.method}/{run.record.variant}" for run in found})
    if len(methods) > 1:
        raise ResultsError(
            f"'{name}' must mean one method and variant, but means {', '.join(methods)}; name one of them"
        )
    rows, notes = chosen_configs(found, filters.configs)
    return rows, [*readings, *notes]


def _names(record: RunRecord) -> list[tuple[str, str]]:
    """What a run's method and variant are called: as in the registry, and as tables print them; in small letters."""
    variants = dict.fromkeys((record.variant, record.variant_title if record.variant != "full" else "full"))
    return [(m.casefold(), v.casefold()) for m in dict.fromkeys((record.method, record.title)) for v in variants]


def shown_p(p_value: float) -> str:
    """`= 0.012` or `< 0.0001`."""
    return "< 0.0001" if p_value < 1e-4 else f"= {p_value:.2g}"


def _table_mates(runs_dir: Path, ours: RowRuns, filters: Filters) -> tuple[list[RowRuns], list[str]]:
    """The other rows of the table that a row stands in: the overall one, or its method's ablation."""
    record = ours.record
    method, variant = (None, "full") if record.variant == "full" else (record.method, None)
    filters = replace(filters, contract=filters.contract or record.contract_digest)
    selection = select_runs(runs_dir, exact_dataset(record), filters, method=method, variant=variant)
    mates = [row for row in selection.rows if not _share_runs(ours, row) and _is_rival(ours, row, filters)]
    if not mates:
        raise ResultsError(
            f"a comparison needs two sides, but {ours.label} has no other finished run beside it on "
            f"'{record.dataset}'; run another method, or name one"
        )
    return mates, list(selection.notes)


def _is_rival(ours: RowRuns, row: RowRuns, filters: Filters) -> bool:
    """Whether a row is another method or variant, or another config that was asked for."""
    same = [(one.record.method, one.record.variant) for one in (ours, row)]
    return same[0] != same[1] or bool(filters.configs)


def _share_runs(first: RowRuns, second: RowRuns) -> bool:
    return bool({run.folder for run in first.runs} & {run.folder for run in second.runs})


def _refuse_unlike(first: RowRuns, second: RowRuns) -> None:
    """`ResultsError` unless both sides can be compared."""
    datasets = [row.record.dataset for row in (first, second)]
    if datasets[0] != datasets[1]:
        raise ResultsError(
            f"runs that are compared must be of one data set, but {first.label} is of '{datasets[0]}' "
            f"and {second.label} of '{datasets[1]}'; add --dataset NAME"
        )
    refuse_mixture([first, second])


def _compared(first: RowRuns, second: RowRuns, columns: Sequence[MetricColumn], notes: tuple[str, ...]) -> Comparison:
    """Two rows in all columns, p-values not yet adjusted."""
    check_one_population([first, second])
    labels, owners = _labels_apart(first, second), first.owners
    num_cases = len(first.runs[0].ranks(["user"]))
    return Comparison(
        dataset=first.record.dataset,
        synthetic=first.record.synthetic,
        num_users=num_cases if owners is None else len(np.unique(owners)),
        num_cases=num_cases,
        first=labels[0],
        second=labels[1],
        first_seeds=first.seeds,
        second_seeds=second.seeds,
        metrics=tuple(
            _in_one_metric(name, k, first.values(name, k), second.values(name, k), owners) for name, k in columns
        ),
        num_questions=len(columns),
        notes=notes,
    )


def _labels_apart(first: RowRuns, second: RowRuns) -> tuple[str, str]:
    """The sides' labels; with their configs or else their seeds where they are of one method and variant."""
    labels = first.label, second.label
    if labels[0] != labels[1]:
        return labels
    digests = [row.record.config_digest[:8] for row in (first, second)]
    seeds = ["seed " + ", ".join(map(str, row.seeds)) for row in (first, second)]
    apart = digests if digests[0] != digests[1] else seeds
    return f"{labels[0]} ({apart[0]})", f"{labels[1]} ({apart[1]})"


def _in_one_metric(
    metric: str, k: int, first_SU: np.ndarray, second_SU: np.ndarray, owners_U: np.ndarray | None
) -> MetricComparison:
    first_U, second_U = (by_user(mean_over_seeds(values_SU), owners_U) for values_SU in (first_SU, second_SU))
    gap = float(first_U.mean() - second_U.mean())
    std = float((first_U - second_U).std(ddof=1)) if len(first_U) > 1 else 0.0
    p_values = PValues(
        paired_t_test(first_U, second_U).p_value,
        wilcoxon_test(first_U, second_U).p_value,
        permutation_test(first_U, second_U, fixed_random()).p_value,
    )
    return MetricComparison(
        metric=metric,
        k=k,
        first=float(first_U.mean()),
        second=float(second_U.mean()),
        difference=bootstrap_difference(first_SU, second_SU, fixed_random(), owners_U),
        effect=effect(first_U, second_U),
        p_values=p_values,
        adjusted=p_values,
        users_needed=users_needed(gap, std),
        seeds_needed=seeds_needed(gap, (std_over_seeds(first_SU), std_over_seeds(second_SU))),
    )


def _adjusted(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons with each test's p-values adjusted over all of their metrics together."""
    raw = np.array([metric.p_values for comparison in comparisons for metric in comparison.metrics])
    rows = iter(np.column_stack([holm(raw[:, test]) for test in range(raw.shape[1])]).tolist())
    return [
        replace(
            comparison,
            metrics=tuple(replace(metric, adjusted=PValues(*next(rows))) for metric in comparison.metrics),
            num_questions=len(raw),
        )
        for comparison in comparisons
    ]
