"""One method against another on the same users: how much, how sure, how large, and what would settle it.

Users are paired, and a user's value is averaged over the seeds first (see `tests`). Each of the three tests is
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
from results.statistics.metrics import user_values
from results.statistics.tests import (
    ALPHA,
    Effect,
    Interval,
    bootstrap_difference,
    effect,
    holm,
    mean_over_seeds,
    paired_t_test,
    permutation_test,
    seeds_needed,
    std_over_seeds,
    users_needed,
    wilcoxon_test,
)
from results.store.runs import find_runs, matches_place
from results.store.schema import RunRecord
from results.store.selection import (
    Filters,
    Group,
    check_same_cases,
    chosen_configs,
    disclosures,
    each_once,
    rank_matrix,
    refuse_mixture,
    refuse_several_datasets,
    select_runs,
)
from results.tables.lines import MetricColumn
from results.tables.paper import PAPER_COLUMNS
from results.tables.table import DECIMALS

RANDOM_SEED = 0  # of the bootstrap and the permutations, so that a comparison always says the same
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
    *,
    dataset: str | None = None,
    columns: Sequence[MetricColumn] = PAPER_COLUMNS,
    filters: Filters | None = None,
) -> list[Comparison]:
    """The first method against the second one; without a second, against each one that stands in a table with it.

    Those are the other unchanged methods for an unchanged method, and the method's other variants for a variant. A
    name is `method` (unchanged), `method/variant`, or parts of a run's path side by side, the last as a beginning.
    `ResultsError` when a name means no runs or several methods, and for runs of other data or another contract.
    """
    filters = filters or Filters()
    ours, notes = named_group(runs_dir, first, dataset, filters)
    if second is not None:
        rival, rival_notes = named_group(runs_dir, second, dataset, filters)
        rivals, notes = [rival], notes + rival_notes + disclosures([ours, rival])
    else:
        rivals, rival_notes = _table_mates(runs_dir, ours, filters)
        notes = notes + rival_notes
    for rival in rivals:
        _refuse_unlike(ours, rival)
    bare = [_compared(ours, rival, columns, tuple(dict.fromkeys(notes))) for rival in rivals]
    return _adjusted(bare)


def named_group(
    runs_dir: Path, name: str, dataset: str | None = None, filters: Filters | None = None
) -> tuple[Group, list[str]]:
    """The runs that a name means, one config and all its seeds, and a note where there was a choice of configs."""
    filters = filters or Filters()
    runs = each_once(find_runs(runs_dir, dataset=dataset, contract=filters.contract, preset=filters.preset))
    inside = Path(name).is_relative_to(runs_dir)
    parts = Path(name).relative_to(runs_dir).parts if inside else tuple(name.strip("/").split("/"))
    asked = tuple(part.casefold() for part in (parts if len(parts) == 2 else (*parts, "full")))
    found = [run for run in runs if asked in _names(run.record)]
    for wanted in ((*parts, ""), parts):  # whole names before beginnings of names
        found = found or [run for run in runs if matches_place(run.folder.relative_to(runs_dir).parts, wanted)]
    if not found:
        where = f"{runs_dir}" + (f" of data set '{dataset}'" if dataset else "")
        known = sorted({f"{run.record.method}/{run.record.variant}" for run in runs})
        raise ResultsError(f"no finished run in {where} is named '{name}'; known: {', '.join(known) or 'none'}")
    datasets = sorted({run.record.dataset for run in found})
    if len(datasets) > 1:
        raise ResultsError(
            f"'{name}' must mean one data set, but has runs of {', '.join(datasets)}; add --dataset NAME"
        )
    methods = sorted({f"{run.record.method}/{run.record.variant}" for run in found})
    if len(methods) > 1:
        raise ResultsError(
            f"'{name}' must mean one method and variant, but means {', '.join(methods)}; name one of them"
        )
    refuse_several_datasets(found)
    groups, notes = chosen_configs(found, filters.configs)
    if len(groups) > 1:
        configs = ", ".join(group.record.config_digest for group in groups)
        raise ResultsError(f"'{name}' must mean one config, but means {configs}; name one with --configs DIGEST")
    return groups[0], notes


def _names(record: RunRecord) -> list[tuple[str, str]]:
    """What a run's method and variant are called: as in the registry, and as tables print them; in small letters."""
    variants = dict.fromkeys((record.variant, record.variant_title if record.variant != "full" else "full"))
    return [(m.casefold(), v.casefold()) for m in dict.fromkeys((record.method, record.title)) for v in variants]


def shown_p(p_value: float) -> str:
    """`= 0.012` or `< 0.0001`."""
    return "< 0.0001" if p_value < 1e-4 else f"= {p_value:.2g}"


def _table_mates(runs_dir: Path, ours: Group, filters: Filters) -> tuple[list[Group], list[str]]:
    """The other groups of the table that a group stands in: the overall one, or its method's ablation."""
    record = ours.record
    beside = {"variant": "full"} if record.variant == "full" else {"method": record.method}
    filters = Filters(contract=filters.contract or record.contract_digest, preset=filters.preset)
    selection = select_runs(runs_dir, f"{record.dataset}-{record.dataset_fingerprint}", filters, **beside)
    mates = [
        group
        for group in selection.groups
        if (group.record.method, group.record.variant) != (record.method, record.variant)
    ]
    if not mates:
        raise ResultsError(
            f"a comparison needs two sides, but {ours.label} has no other finished run beside it on "
            f"'{record.dataset}'; run another method, or name one"
        )
    return mates, list(selection.notes)


def _refuse_unlike(first: Group, second: Group) -> None:
    """`ResultsError` unless both sides can be compared and are not the same runs."""
    if {run.folder for run in first.runs} & {run.folder for run in second.runs}:
        raise ResultsError(f"the two sides must be different runs, but both are {first.label}; name another")
    datasets = [group.record.dataset for group in (first, second)]
    if datasets[0] != datasets[1]:
        raise ResultsError(
            f"runs that are compared must be of one data set, but {first.label} is of '{datasets[0]}' "
            f"and {second.label} of '{datasets[1]}'; add --dataset NAME"
        )
    refuse_mixture([first, second])


def _compared(first: Group, second: Group, columns: Sequence[MetricColumn], notes: tuple[str, ...]) -> Comparison:
    """Two groups in all columns, p-values not yet adjusted."""
    our_cases, their_cases = (group.runs[0].ranks(["user", "target"]).sort("user") for group in (first, second))
    check_same_cases(our_cases, their_cases, first.runs[0], second.runs[0])
    ranks = [rank_matrix(group) for group in (first, second)]
    lengths = [group.runs[0].list_length for group in (first, second)]
    labels = _labels_apart(first, second)
    metrics = []
    for metric, k in columns:
        values = [user_values(r, metric, k, length) for r, length in zip(ranks, lengths, strict=True)]
        metrics.append(_in_one_metric(metric, k, *values))
    return Comparison(
        dataset=first.record.dataset,
        synthetic=first.record.synthetic,
        num_users=len(our_cases),
        first=labels[0],
        second=labels[1],
        first_seeds=first.seeds,
        second_seeds=second.seeds,
        metrics=tuple(metrics),
        num_questions=len(columns),
        notes=notes,
    )


def _labels_apart(first: Group, second: Group) -> tuple[str, str]:
    """The sides' labels; with their configs or else their seeds where they are of one method and variant."""
    labels = first.label, second.label
    if labels[0] != labels[1]:
        return labels
    digests = [group.record.config_digest[:8] for group in (first, second)]
    seeds = ["seed " + ", ".join(map(str, group.seeds)) for group in (first, second)]
    apart = digests if digests[0] != digests[1] else seeds
    return f"{labels[0]} ({apart[0]})", f"{labels[1]} ({apart[1]})"


def _in_one_metric(metric: str, k: int, first_SU: np.ndarray, second_SU: np.ndarray) -> MetricComparison:
    first_U, second_U = mean_over_seeds(first_SU), mean_over_seeds(second_SU)
    gap = float(first_U.mean() - second_U.mean())
    std = float((first_U - second_U).std(ddof=1)) if len(first_U) > 1 else 0.0
    p_values = PValues(
        paired_t_test(first_U, second_U).p_value,
        wilcoxon_test(first_U, second_U).p_value,
        permutation_test(first_U, second_U, np.random.default_rng(RANDOM_SEED)).p_value,
    )
    return MetricComparison(
        metric=metric,
        k=k,
        first=float(first_U.mean()),
        second=float(second_U.mean()),
        difference=bootstrap_difference(first_SU, second_SU, np.random.default_rng(RANDOM_SEED)),
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
