"""What the numbers say, in sentences: who leads, whether a gap is real, what speaks against the paper.

Every verdict is a paired two-sided t-test over users on values averaged over seeds, at `ALPHA`; within a family of
questions the p-values are corrected by Holm's method.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from results.published import paper
from results.report.material import Board, Material
from results.statistics.comparison import shown_p
from results.statistics.inference import (
    ALPHA,
    Interval,
    bootstrap_difference,
    by_user,
    fixed_random,
    holm,
    mean_over_seeds,
    paired_t_test,
    users_needed,
)
from results.store.selection import RowRuns
from results.tables.content import DECIMALS

MAIN = ("NDCG", 10)
SECOND = ("Recall", 10)


@dataclass(frozen=True)
class Contest:
    """Two rows on one metric: the first one's lead over the second."""

    first: str
    second: str
    first_mean: float
    second_mean: float
    gap: Interval  # of first - second
    p_value: float
    users_needed: int | None  # for a gap of this size to be told from chance; None: there is no gap

    @property
    def is_real(self) -> bool:
        """Whether the gap is beyond what chance among users gives."""
        return self.p_value < ALPHA

    @property
    def verdict(self) -> str:
        """What the test says."""
        if self.is_real:
            seeds = ", though seeds alone may explain it" if self.gap.low <= 0 <= self.gap.high else ""
            return f"beyond chance among users (p {shown_p(self.p_value)}{seeds})"
        return f"not beyond chance among users (p {shown_p(self.p_value)}, where p < {ALPHA} is asked for)"


def contest(first: tuple[str, RowRuns], second: tuple[str, RowRuns], metric: tuple[str, int] = MAIN) -> Contest:
    """The two rows held against each other, user by user."""
    (first_label, first_group), (second_label, second_group) = first, second
    first_SU, second_SU = first_group.values(*metric), second_group.values(*metric)
    owners = first_group.owners
    first_U, second_U = (by_user(mean_over_seeds(values_SU), owners) for values_SU in (first_SU, second_SU))
    gap = bootstrap_difference(first_SU, second_SU, fixed_random(), owners)
    test = paired_t_test(first_U, second_U)
    std = float((first_U - second_U).std(ddof=1)) if len(first_U) > 1 else 0.0
    return Contest(
        first=first_label,
        second=second_label,
        first_mean=float(first_U.mean()),
        second_mean=float(second_U.mean()),
        gap=gap,
        p_value=test.p_value,
        users_needed=users_needed(test.difference, std),
    )


def summary(material: Material) -> list[str]:
    """The report in a few sentences."""
    lines = []
    if material.overall is not None:
        lines += _leader(material.overall.groups)
        lines += _proposed(material.overall.groups)
    for board in material.ablations:
        lines += _ablation(board)
    method = f"Beyond chance among users means p < {ALPHA} in a paired two-sided t-test over users."
    return [*lines, *([method] if len(material.groups) > 1 else []), _seeds(material.groups), *_data(material)]


def against_paper(material: Material) -> list[str]:
    """Where our order is not the paper's; one sentence each, empty where nothing speaks against it.

    Asked are only orders that the paper finds on all of its data sets, on NDCG@10.
    """
    lines = []
    if material.overall is not None:
        lines += _reversed_orders(material.overall.groups)
    for board in material.ablations:
        if any(group.record.is_proposed for group in board.groups.values()):
            lines += _reversed_ablations(board)
    return lines


def _leader(groups: Mapping[str, RowRuns]) -> list[str]:
    lines = []
    for metric in (MAIN, SECOND):
        ranking = _ranking(groups, metric)
        name = f"{metric[0]}@{metric[1]}"
        if len(ranking) == 1:
            return [f"{ranking[0][0]} alone was run; there is nothing to compare it with."]
        lead = contest(ranking[0], ranking[1], metric)
        needed = "" if lead.is_real or lead.users_needed is None else _needed(lead.users_needed)
        lines.append(
            f"{lead.first} leads on {name}: {_value(lead.first_mean)}, {_value(lead.gap.mean)} "
            f"({_percent(lead.gap.mean, lead.second_mean)}) above {lead.second} with {_value(lead.second_mean)}. "
            f"The gap is {lead.verdict}; its 95 % interval is {_value(lead.gap.low)} to {_value(lead.gap.high)}."
            + needed
        )
    return lines


def _needed(num_users: int) -> str:
    return f" To tell such a gap from chance takes about {num_users:,} users."


def _proposed(groups: Mapping[str, RowRuns]) -> list[str]:
    """Where the proposed method stands, unless it leads, which is said already."""
    ranking = _ranking(groups, MAIN)
    place = next((i for i, (_, group) in enumerate(ranking) if group.record.is_proposed), 0)
    if place == 0:
        return []
    behind = contest(ranking[0], ranking[place])
    return [
        f"{behind.second} takes place {place + 1} of {len(ranking)} on NDCG@10, "
        f"{_percent(behind.gap.mean, behind.first_mean)} below {behind.first}; that gap is {behind.verdict}."
    ]


def _ablation(board: Board) -> list[str]:
    contests = _ablation_contests(board)
    if not contests:
        return []
    title = contests[0].second
    real = [one for one in contests if one.is_real]
    if not real:
        return [
            f"None of the {len(contests)} variants of {title} differs from it on NDCG@10 beyond chance among users "
            "(Holm's correction over the variants)."
        ]
    told = "; ".join(f"{one.first} {_signed(one.gap.mean)} (p {shown_p(one.p_value)})" for one in real)
    return [
        f"{len(real)} of {len(contests)} variants of {title} differ from it on NDCG@10 beyond chance among users "
        f"(Holm's correction over the variants): {told}."
    ]


def _seeds(groups: Sequence[RowRuns]) -> str:
    seeds = {group.seeds for group in groups}
    if max(len(found) for found in seeds) == 1:
        return (
            "One seed per row: how much chance in training moves these numbers is not measured, and no test here "
            "speaks of it."
        )
    fewest, most = (choose(len(found) for found in seeds) for choose in (min, max))
    number = f"{most}" if fewest == most else f"{fewest} to {most}"
    return f"{number} seeds per row: values are means over seeds, and intervals resample seeds and users."


def _data(material: Material) -> list[str]:
    lines = []
    if material.is_synthetic:
        lines.append("The data are made up: they show that the methods work, not which is better on real data.")
    presets = sorted({group.record.preset for group in material.groups} - {"paper"})
    if presets:
        lines.append(
            f"Models and schedules are smaller than the paper's (preset {', '.join(presets)}): an order found here "
            "need not hold at full size."
        )
    return lines


def _reversed_orders(groups: Mapping[str, RowRuns]) -> list[str]:
    """Rows that lead here over rows that lead over them in all of the paper's tables, by our winner."""
    orders = [paper.overall(name) for name in paper.datasets()]
    known = [label for label in groups if all((label, *MAIN) in order for order in orders)]
    means = dict(_means({label: groups[label] for label in known}, MAIN))
    contests = _corrected(
        [
            contest((ours, groups[ours]), (theirs, groups[theirs]))
            for ours in known
            for theirs in known
            if means[ours] > means[theirs] and all(order[(theirs, *MAIN)] > order[(ours, *MAIN)] for order in orders)
        ]
    )
    lines = []
    for winner in dict.fromkeys(one.first for one in contests):
        real = [one.second for one in contests if one.first == winner and one.is_real]
        chance = [one.second for one in contests if one.first == winner and not one.is_real]
        for rivals, degree in ((real, "beyond chance among users"), (chance, "though not beyond chance among users")):
            if rivals:
                told = f"{winner} is above {_listed(rivals)}, {degree}"
                lines.append(f"{told}; in the paper it is below on all three data sets.")
    return lines


def _reversed_ablations(board: Board) -> list[str]:
    """What the paper's Table 4 shows on all data sets, a loss for every variant, and is not found here."""
    contests = _ablation_contests(board)
    if not contests:
        return []
    tables = [paper.ablation(name) for name in paper.datasets()]
    above = [one for one in contests if one.gap.mean > 0 and all(_loses(one, table) for table in tables)]
    lost = [one for one in contests if one.gap.mean < 0 and one.is_real]
    title = contests[0].second
    lines = []
    if above:
        told = _listed([f"{one.first} ({_signed(one.gap.mean)}, p {shown_p(one.p_value)})" for one in above])
        lines.append(f"{told} scored above {title}; in the paper, leaving that out costs on all three data sets.")
    if not lost:
        lines.append(f"No variant is below {title} beyond chance among users, so no part of it is shown to help here.")
    return lines


def _loses(variant: Contest, printed: paper.Published) -> bool:
    """Whether the paper prints the variant, and below the full method."""
    ours, full = (printed.get((label, *MAIN)) for label in (variant.first, variant.second))
    return ours is not None and full is not None and ours < full


def _ablation_contests(board: Board) -> list[Contest]:
    """Each variant against the full method, Holm-corrected; empty without a full run or without variants."""
    full = [(label, group) for label, group in board.groups.items() if group.record.variant == "full"]
    variants = [
        (row.label, board.groups[row.label])
        for row in board.table.rows
        if row.label in board.groups and board.groups[row.label].record.variant != "full"
    ]
    return _corrected([contest(variant, full[0]) for variant in variants]) if full else []


def _corrected(contests: Sequence[Contest]) -> list[Contest]:
    p_values = holm(np.array([one.p_value for one in contests]))
    return [replace(one, p_value=float(p_value)) for one, p_value in zip(contests, p_values, strict=True)]


def _means(groups: Mapping[str, RowRuns], metric: tuple[str, int]) -> list[tuple[str, float]]:
    return [(label, float(group.values(*metric).mean())) for label, group in groups.items()]


def _ranking(groups: Mapping[str, RowRuns], metric: tuple[str, int]) -> list[tuple[str, RowRuns]]:
    means = dict(_means(groups, metric))
    return sorted(groups.items(), key=lambda pair: -means[pair[0]])


def _value(value: float) -> str:
    return f"{value:.{DECIMALS}f}"


def _signed(value: float) -> str:
    return f"{value:+.{DECIMALS}f}"


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.0f} %" if whole else "from nothing"


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), *names[-1:]] if len(names) > 1 else names)
