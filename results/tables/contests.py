"""Which rows of a leaderboard differ beyond chance: what is asked, the p-values, and the stars.

A paired two-sided t-test on per-user values, p < 0.01; seeds are averaged per user first:
- table of methods: on a column's best value, that it differs from its strongest rival, the best of the other rows (for
  the proposed method that is the best baseline, as in the paper); on the improvement line, that the proposed method
  differs from the best baseline, for better or worse. One comparison a column, not corrected, as in the paper.
- table of variants: on a variant's value, that it differs from the full method, for better or worse; p-values are
  corrected by Holm's method over the variants of a column, since each is one of a family of questions.
- sliced tables: the same questions within each slice, corrected by Holm's method over all of the table's. Slices of
  few users are not tested: the t-test needs many. Where a method's own codes cut the slices, nothing is compared.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from results.statistics.inference import ALPHA, by_user, holm, mean_over_seeds, paired_t_test
from results.tables.content import TableCell, TableRow, Unit
from results.tables.lines import Line, Part, tested_parts
from results.tables.slices import Slicing


class Contest(NamedTuple):
    """The question whether a line differs from another one of its part in a column."""

    part: int
    column: int
    line: int
    rival: int


Answers = Mapping[Contest, float]  # p-values, corrected where the table corrects them


def best_contests(parts: Sequence[Part], slicing: Slicing | None) -> list[Contest]:
    """Each column's best line against the best of the others."""
    contests = []
    for index, lines in tested_parts(parts, slicing):
        for column in range(len(lines[0].values) if len(lines) > 1 else 0):
            first, second, *_ = np.argsort([-line.values[column].mean() for line in lines], kind="stable")
            contests.append(Contest(index, column, int(first), int(second)))
    return contests


def improvement_contests(parts: Sequence[Part], slicing: Slicing | None) -> list[Contest]:
    """The proposed method against each column's best baseline; none without the two."""
    contests = []
    for index, lines in tested_parts(parts, slicing):
        proposed = [place for place, line in enumerate(lines) if line.runs.record.is_proposed]
        baselines = [place for place, line in enumerate(lines) if not line.runs.record.is_proposed]
        for column in range(len(lines[0].values) if proposed and baselines else 0):
            best = max(baselines, key=lambda place: lines[place].values[column].mean())
            contests.append(Contest(index, column, proposed[0], best))
    return contests


def variant_contests(parts: Sequence[Part], slicing: Slicing | None) -> list[Contest]:
    """Each variant against the full method, in each column; none without the two."""
    contests = []
    for index, lines in tested_parts(parts, slicing):
        full = [place for place, line in enumerate(lines) if line.runs.record.variant == "full"]
        variants = [place for place, line in enumerate(lines) if line.runs.record.variant != "full"]
        columns = range(len(lines[0].values))
        contests += [Contest(index, column, place, full[0]) for column in columns for place in variants if full]
    return contests


def column_of(contest: Contest) -> Hashable:
    """The family of an ablation table's contests: the variants of a column."""
    return contest.part, contest.column


def whole_table(contest: Contest) -> Hashable:
    """The family of a sliced table's contests: all of them."""
    return None


def answered(
    parts: Sequence[Part], contests: Sequence[Contest], family: Callable[[Contest], Hashable] | None
) -> Answers:
    """The contests' p-values, corrected by Holm's method within each family; None: not corrected.

    A contest that is asked twice, from either side, is one question and counts once.
    """
    p_values: dict[Contest, float] = {}
    for contest in contests:
        lines = [parts[contest.part].lines[place] for place in (contest.line, contest.rival)]
        first, second = (by_user(mean_over_seeds(line.values[contest.column]), line.owners) for line in lines)
        p_values[contest] = paired_t_test(first, second).p_value
    if family is None:
        return p_values
    families: dict[Hashable, dict[Contest, float]] = defaultdict(dict)
    for contest, p_value in p_values.items():
        families[family(contest)][_either_side(contest)] = p_value
    corrected: dict[Contest, float] = {}
    for asked in families.values():
        corrected.update(zip(asked, map(float, holm(np.array(list(asked.values())))), strict=True))
    return {contest: corrected[_either_side(contest)] for contest in p_values}


def _either_side(contest: Contest) -> Contest:
    """The same for a contest and for that of its rival against it."""
    low, high = sorted((contest.line, contest.rival))
    return contest._replace(line=low, rival=high)


def starred(rows: Sequence[TableRow], contests: Sequence[Contest], answers: Answers) -> list[TableRow]:
    """The rows with p-values and stars where a contest's line stands."""
    cells = [list(row.cells) for row in rows]
    for contest in contests:
        p_value = answers[contest]
        cell = cells[contest.line][contest.column]
        cells[contest.line][contest.column] = replace(cell, p_value=p_value, significant=p_value < ALPHA)
    return [replace(row, cells=tuple(made)) for row, made in zip(rows, cells, strict=True)]


def improvement_row(part: Part, contests: Sequence[Contest], answers: Answers) -> TableRow:
    """The proposed method's change over the best baseline of each column, in per cent."""
    cells = []
    for contest in contests:
        ours, base = (float(part.lines[p].values[contest.column].mean()) for p in (contest.line, contest.rival))
        change = 100.0 * (ours - base) / base if base else None
        cells.append(TableCell(value=change, p_value=answers[contest], significant=answers[contest] < ALPHA))
    return TableRow("Improvement", tuple(cells), Unit.CHANGE, apart=True)


def improvement_note(parts: Sequence[Part], contests: Sequence[Contest]) -> list[str]:
    """Over whom the improvement is."""
    if not contests:
        return []
    lines = parts[0].lines
    names = [lines[contest.rival].label for contest in contests]
    best = ", ".join(names) if len(set(names)) > 1 else names[0]
    over = (
        f"the best baseline of each column ({best})" if len(parts) == 1 else "the slice's best baseline of each column"
    )
    return [f"Improvement: {lines[contests[0].line].label} over {over}, * as above."]


def variant_note(lines: Sequence[Line], contests: Sequence[Contest], slicing: Slicing | None) -> list[str]:
    """What the stars of an ablation table say, or why there are none."""
    full = [line for line in lines if line.runs.record.variant == "full"]
    if not full or len(lines) == 1:
        missing = "the full method" if not full else "a variant"
        return [f"No test against the full method: {missing} has no finished run."]
    if not contests:
        return []
    over = "the variants of a column" if slicing is None else "the table"
    return [
        f"*: differs from {full[0].label}, p < {ALPHA} (paired two-sided t-test over users, "
        f"Holm's correction over {over})."
    ]
