"""The paper's Tables 2 to 4, made from runs on disk.

What a star means (paired two-sided t-test on per-user values, p < 0.01; seeds are averaged per user first):
- overall table: on a column's best value, that it differs from its strongest rival, the best of the other rows (for
  ETEGRec that is the best baseline, as in the paper); on the improvement line, that ETEGRec differs from the best
  baseline, for better or worse. One comparison a column, not corrected over columns, as in the paper.
- ablation table: on a variant's value, that it differs from the full method, for better or worse; p-values are
  corrected by Holm's method over the variants of a column, since each is one of a family of questions.
- sliced tables: the same questions within each slice, corrected by Holm's method over all of the table's. Slices of
  few users are not tested: the t-test needs many. Where a method's own codes cut the slices, nothing is compared.

Shape legend: S seeds, U users.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import polars as pl

from results.errors import ResultsError
from results.published import paper
from results.statistics.metrics import user_values
from results.statistics.tests import ALPHA, bootstrap_interval, holm, mean_over_seeds, paired_t_test, std_over_seeds
from results.store.schema import RunRecord
from results.store.selection import Group, check_same_cases, rank_matrix, select_runs
from results.tables.slices import Slicing
from results.tables.table import DECIMALS, Cell, Column, Row, Table, Unit

MetricColumn = tuple[str, int]  # metric, k

PAPER_COLUMNS: tuple[MetricColumn, ...] = (("Recall", 5), ("Recall", 10), ("NDCG", 5), ("NDCG", 10))
METHOD_ORDER = ("popularity", "markov", "sasrec", "tiger", "tiger-sas", "letter", "etegrec")
VARIANT_ORDER = ("full", "wo-sia", "wo-psa", "wo-sia-psa", "wo-at", "wo-at-finetuned", "wo-ete")
PROPOSED = "etegrec"
MIN_TESTED = 30  # users of a slice that is tested
INTERVAL_SEED = 0  # of the bootstrap, so that a table always shows the same intervals


@dataclass(frozen=True)
class Line:
    """One method or variant: its label, its runs, and its per-user values by column."""

    label: str
    group: Group
    values: tuple[np.ndarray, ...]  # one (S, U) matrix per column; nan: the seed's codes put the user in another slice


@dataclass(frozen=True)
class Part:
    """The lines that stand under one heading: all users, or those of a slice."""

    heading: str
    lines: tuple[Line, ...]

    @property
    def num_users(self) -> int:
        """Users of a slice that is the same for all lines."""
        return self.lines[0].values[0].shape[1]


class Contest(NamedTuple):
    """The question whether a line differs from another one of its part in a column."""

    part: int
    column: int
    line: int
    rival: int


Answers = Mapping[Contest, float]  # p-values, corrected where the table corrects them


def overall_table(
    runs_dir: Path,
    dataset: str,
    *,
    columns: Sequence[MetricColumn] = PAPER_COLUMNS,
    configs: Collection[str] = (),
    contract: str | None = None,
    preset: str | None = None,
    published: bool = False,
    paper_dataset: str | None = None,
    slicing: Slicing | None = None,
    intervals: bool = False,
) -> Table:
    """Table 3: every unchanged method on one data set, in the paper's order, others after.

    `published` puts the paper's values beside ours where the data set is one of the paper's; `paper_dataset` names
    the one to compare with instead. `slicing` shows each slice of the users under its own heading, `intervals` adds
    bootstrap intervals. Errors as in `select_runs`, and for runs that kept no cases to slice by.
    """
    selection = select_runs(runs_dir, dataset, variant="full", configs=configs, contract=contract, preset=preset)
    lines = [_line(group, group.record.title, columns) for group in selection.groups]
    lines.sort(key=lambda line: paper_place(line.group.record))
    _check_one_population(lines)
    parts, slice_notes = _parts(lines, slicing)
    best, against_best = _best_contests(parts, slicing), _improvement_contests(parts, slicing)
    answers = _answered(parts, [*best, *against_best], None if slicing is None else _whole_table)
    reference, reference_note = _reference(dataset, published, paper_dataset, "overall")
    rows: list[Row] = []
    for index, part in enumerate(parts):
        made = _starred(_part_rows(part, slicing, intervals), [c for c in best if c.part == index], answers)
        improvement = [c for c in against_best if c.part == index]
        made += [_improvement_row(part, improvement, answers)] if improvement else []
        rows.extend(_headed(_with_published(row, columns, reference), part, slicing) for row in made)
    corrected = "" if slicing is None else ", Holm's correction over the table"
    notes = [
        *_reading_notes(lines),
        *_interval_notes(lines, slicing, intervals),
        *(
            [
                f"*: the best differs from the best of the other rows, p < {ALPHA} (paired two-sided t-test over users"
                f"{corrected})."
            ]
            if best
            else []
        ),
        *_improvement_note(parts, against_best),
        *slice_notes,
        *selection.notes,
        *reference_note,
        *_preset_note(lines, reference),
    ]
    return Table(
        caption=f"Overall performance on {_dataset_label(lines[0])}{_cut_by(slicing)}",
        corner="Method",
        columns=_headings(columns, slicing),
        rows=tuple(rows),
        notes=tuple(notes),
    )


def ablation_table(
    runs_dir: Path,
    dataset: str,
    *,
    method: str = PROPOSED,
    columns: Sequence[MetricColumn] = PAPER_COLUMNS,
    configs: Collection[str] = (),
    contract: str | None = None,
    preset: str | None = None,
    published: bool = False,
    paper_dataset: str | None = None,
    slicing: Slicing | None = None,
    intervals: bool = False,
) -> Table:
    """Table 4: a method and its variants on one data set, in the paper's order, others after; as `overall_table`."""
    selection = select_runs(runs_dir, dataset, method=method, configs=configs, contract=contract, preset=preset)
    lines = [_line(group, _variant_label(group), columns) for group in selection.groups]
    lines.sort(key=lambda line: paper_place(line.group.record))
    _check_one_population(lines)
    parts, slice_notes = _parts(lines, slicing)
    contests = _variant_contests(parts, slicing)
    answers = _answered(parts, contests, _column_of if slicing is None else _whole_table)
    reference, reference_note = _reference(dataset, published, paper_dataset, "ablation")
    rows: list[Row] = []
    for index, part in enumerate(parts):
        made = _starred(_part_rows(part, slicing, intervals), [c for c in contests if c.part == index], answers)
        rows.extend(_headed(_with_published(row, columns, reference), part, slicing) for row in made)
    return Table(
        caption=f"Ablation study of {lines[0].group.record.title} on {_dataset_label(lines[0])}{_cut_by(slicing)}",
        corner="Variant",
        columns=_headings(columns, slicing),
        rows=tuple(rows),
        notes=(
            *_reading_notes(lines),
            *_interval_notes(lines, slicing, intervals),
            *_variant_note(lines, contests, slicing),
            *slice_notes,
            *selection.notes,
            *reference_note,
            *_preset_note(lines, reference),
        ),
    )


def datasets_table(counts: Mapping[str, Mapping[str, Any]], *, published: bool = False) -> Table:
    """Table 2: data set name → `users`, `items`, `interactions`, and `synthetic` where the data are made up.

    Sparsity is 100 (1 - interactions / (users items)) per cent.
    """
    if not counts:
        raise ResultsError("a table of data sets needs at least one, but got none; prepare one first")
    rows, notes = [], []
    for name, count in counts.items():
        users, items, interactions = (int(count[key]) for key in ("users", "items", "interactions"))
        sparsity = 100.0 * (1.0 - interactions / (users * items))
        values = (users, items, interactions, sparsity, interactions / users)
        printed = paper.datasets().get(paper.PAPER_DATASETS.get(name, "")) if published else None
        known = (*printed, printed.interactions / printed.users) if printed else (None,) * len(values)
        if published and printed is None:
            notes.append(f"The paper prints no numbers for {name}.")
        cells = tuple(_against(Cell(value=v), p) for v, p in zip(values, known, strict=True))
        rows.append(Row(f"{name} (synthetic)" if count.get("synthetic") else name, cells))
    columns = (
        Column("Users", Unit.COUNT),
        Column("Items", Unit.COUNT),
        Column("Interactions", Unit.COUNT),
        Column("Sparsity", Unit.PERCENT),
        Column("Length", Unit.MEAN),
    )
    notes.append("Length: mean number of interactions of a user.")
    return Table("Statistics of the data sets", "Data set", columns, tuple(rows), tuple(notes))


def _line(group: Group, label: str, columns: Sequence[MetricColumn]) -> Line:
    ranks_SU = rank_matrix(group)
    length = group.runs[0].list_length
    return Line(label, group, tuple(user_values(ranks_SU, metric, k, length) for metric, k in columns))


def _check_one_population(lines: Sequence[Line]) -> None:
    """`ResultsError` unless all lines were judged on the same users and targets, which pairing needs."""
    first_run = lines[0].group.runs[0]
    first = _cases(lines[0])
    for line in lines[1:]:
        check_same_cases(first, _cases(line), first_run, line.group.runs[0])


def _cases(line: Line) -> pl.DataFrame:
    return line.group.runs[0].ranks(["user", "target"]).sort("user")


def paper_place(record: RunRecord) -> tuple[tuple[int, str], tuple[int, str]]:
    """Sort key: the paper's methods and each one's variants in its tables' order, then the others by name."""
    return _place(record.method, METHOD_ORDER), _place(record.variant, VARIANT_ORDER)


def _place(name: str, order: Sequence[str]) -> tuple[int, str]:
    """Sort key: the known names in their order, then the others by name."""
    name = name.casefold().replace("_", "-")
    return (order.index(name) if name in order else len(order), name)


def _variant_label(group: Group) -> str:
    record = group.record
    return record.title if record.variant == "full" else record.variant_title


def _dataset_label(line: Line) -> str:
    record = line.group.record
    return f"{record.dataset} (synthetic)" if record.synthetic else record.dataset


def _headings(columns: Sequence[MetricColumn], slicing: Slicing | None) -> tuple[Column, ...]:
    users = () if slicing is None else (Column("Users", Unit.COUNT),)
    return (*users, *(Column(f"{metric}@{k}") for metric, k in columns))


def _cut_by(slicing: Slicing | None) -> str:
    return "" if slicing is None else f", by {slicing.title}"


def _parts(lines: Sequence[Line], slicing: Slicing | None) -> tuple[list[Part], list[str]]:
    """The parts of a table, and what must be said of slices and lines that are left out."""
    if slicing is None:
        return [Part("", tuple(lines))], []
    parts, notes = _code_parts(lines, slicing) if slicing.by_codes else _case_parts(lines, slicing)
    empty = [heading for heading in slicing.headings if heading not in {part.heading for part in parts}]
    notes += [f"Without users, and so left out: {', '.join(empty)}."] if empty else []
    small = [part.heading for part in parts if not slicing.by_codes and part.num_users < MIN_TESTED]
    notes += [f"Fewer than {MIN_TESTED} users, and so not tested: {', '.join(small)}."] if small else []
    return parts, notes


def _case_parts(lines: Sequence[Line], slicing: Slicing) -> tuple[list[Part], list[str]]:
    """A part for each slice that has users; the cases of one run are those of all, since all have the same data."""
    labels_U = slicing.labels(lines[0].group.runs[0].cases().sort("user")).to_numpy()
    members = {heading: labels_U == heading for heading in slicing.headings}
    parts = [
        Part(heading, tuple(replace(line, values=tuple(v[:, member_U] for v in line.values)) for line in lines))
        for heading, member_U in members.items()
        if member_U.any()
    ]
    return parts, []


def _code_parts(lines: Sequence[Line], slicing: Slicing) -> tuple[list[Part], list[str]]:
    """A part for each slice that has users in some line's codes; lines without codes are left out."""
    labels = [
        np.stack([slicing.labels(run.cases().sort("user")).to_numpy() for run in line.group.runs]) for line in lines
    ]
    with_codes = [(line, labels_SU) for line, labels_SU in zip(lines, labels, strict=True) if _has_labels(labels_SU)]
    if not with_codes:
        raise ResultsError(
            f"slice '{slicing.name}' needs a method with item codes, but none of the table's rows has any"
        )
    parts = []
    for heading in slicing.headings:
        members = [(line, labels_SU == heading) for line, labels_SU in with_codes]
        if any(member_SU.any() for _, member_SU in members):
            cut = [
                replace(line, values=tuple(np.where(member_SU, v, np.nan) for v in line.values))
                for line, member_SU in members
            ]
            parts.append(Part(heading, tuple(cut)))
    without = [line.label for line, labels_SU in zip(lines, labels, strict=True) if not _has_labels(labels_SU)]
    notes = ["Each method and seed has codes, and so users in a slice, of its own: no row is tested or marked."]
    notes += [f"Without codes, and so left out: {', '.join(without)}."] if without else []
    return parts, notes


def _has_labels(labels_SU: np.ndarray) -> bool:
    return any(label is not None for label in labels_SU.flat)


def _part_rows(part: Part, slicing: Slicing | None, intervals: bool) -> list[Row]:
    """A part's rows, the best and second marked where the lines have the same users."""
    by_codes = slicing is not None and slicing.by_codes
    rows = [Row(line.label, tuple(_cell(values_SU, intervals) for values_SU in line.values)) for line in part.lines]
    return rows if by_codes else _mark(rows)


def _headed(row: Row, part: Part, slicing: Slicing | None) -> Row:
    """The row under its part's heading, in a sliced table with its number of users in front."""
    if slicing is None:
        return row
    line = next((line for line in part.lines if line.label == row.label), None)
    users = None if line is None else float((~np.isnan(line.values[0])).sum(axis=1).mean())
    return replace(row, cells=(Cell(value=users), *row.cells), section=part.heading)


def _cell(values_SU: np.ndarray, intervals: bool) -> Cell:
    """Mean over seeds and users, the standard deviation of the seeds' means, and the interval if asked for."""
    counted_SU = ~np.isnan(values_SU)
    if not counted_SU.any(axis=1).all():
        return Cell(value=None)
    means_S = np.nanmean(values_SU, axis=1)
    cell = Cell(value=float(means_S.mean()), std=std_over_seeds(means_S[:, None]), seeds=len(means_S))
    users_U = counted_SU.all(axis=0)
    if not intervals or not np.array_equal(users_U, counted_SU.any(axis=0)):
        return cell
    _, low, high = bootstrap_interval(values_SU[:, users_U], np.random.default_rng(INTERVAL_SEED))
    return replace(cell, low=low, high=high)


def _mark(rows: Sequence[Row]) -> list[Row]:
    """The rows with each column's best and second marked; values that print alike share a mark."""
    printed = np.array([[round(cell.value or 0.0, DECIMALS) for cell in row.cells] for row in rows])
    best = printed.max(axis=0)
    below = np.where(printed < best, printed, -np.inf).max(axis=0)
    if len(rows) == 1:
        return list(rows)
    return [
        replace(
            row,
            cells=tuple(
                replace(cell, best=bool(value == top), second=bool(value == next_))
                for cell, value, top, next_ in zip(row.cells, values, best, below, strict=True)
            ),
        )
        for row, values in zip(rows, printed, strict=True)
    ]


def _tested(parts: Sequence[Part], slicing: Slicing | None) -> list[tuple[int, tuple[Line, ...]]]:
    """The parts in which lines may be tested against each other, with their index."""
    if slicing is None:
        return [(index, part.lines) for index, part in enumerate(parts)]
    enough = [(index, part) for index, part in enumerate(parts) if not slicing.by_codes]
    return [(index, part.lines) for index, part in enough if part.num_users >= MIN_TESTED]


def _best_contests(parts: Sequence[Part], slicing: Slicing | None) -> list[Contest]:
    """Each column's best line against the best of the others."""
    contests = []
    for index, lines in _tested(parts, slicing):
        for column in range(len(lines[0].values) if len(lines) > 1 else 0):
            first, second, *_ = np.argsort([-line.values[column].mean() for line in lines], kind="stable")
            contests.append(Contest(index, column, int(first), int(second)))
    return contests


def _improvement_contests(parts: Sequence[Part], slicing: Slicing | None) -> list[Contest]:
    """The proposed method against each column's best baseline; none without the two."""
    contests = []
    for index, lines in _tested(parts, slicing):
        proposed = [place for place, line in enumerate(lines) if line.group.record.method == PROPOSED]
        baselines = [place for place, line in enumerate(lines) if line.group.record.method != PROPOSED]
        for column in range(len(lines[0].values) if proposed and baselines else 0):
            best = max(baselines, key=lambda place: lines[place].values[column].mean())
            contests.append(Contest(index, column, proposed[0], best))
    return contests


def _variant_contests(parts: Sequence[Part], slicing: Slicing | None) -> list[Contest]:
    """Each variant against the full method, in each column; none without the two."""
    contests = []
    for index, lines in _tested(parts, slicing):
        full = [place for place, line in enumerate(lines) if line.group.record.variant == "full"]
        variants = [place for place, line in enumerate(lines) if line.group.record.variant != "full"]
        columns = range(len(lines[0].values))
        contests += [Contest(index, column, place, full[0]) for column in columns for place in variants if full]
    return contests


def _column_of(contest: Contest) -> Hashable:
    """The family of an ablation table's contests: the variants of a column."""
    return contest.part, contest.column


def _whole_table(contest: Contest) -> Hashable:
    """The family of a sliced table's contests: all of them."""
    return None


def _answered(
    parts: Sequence[Part], contests: Sequence[Contest], family: Callable[[Contest], Hashable] | None
) -> Answers:
    """The contests' p-values, corrected by Holm's method within each family; None: not corrected.

    A contest that is asked twice, from either side, is one question and counts once.
    """
    p_values: dict[Contest, float] = {}
    for contest in contests:
        lines = parts[contest.part].lines
        first, second = (lines[place].values[contest.column] for place in (contest.line, contest.rival))
        p_values[contest] = paired_t_test(mean_over_seeds(first), mean_over_seeds(second)).p_value
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


def _starred(rows: Sequence[Row], contests: Sequence[Contest], answers: Answers) -> list[Row]:
    """The rows with p-values and stars where a contest's line stands."""
    cells = [list(row.cells) for row in rows]
    for contest in contests:
        p_value = answers[contest]
        cell = cells[contest.line][contest.column]
        cells[contest.line][contest.column] = replace(cell, p_value=p_value, significant=p_value < ALPHA)
    return [replace(row, cells=tuple(made)) for row, made in zip(rows, cells, strict=True)]


def _improvement_row(part: Part, contests: Sequence[Contest], answers: Answers) -> Row:
    """The proposed method's change over the best baseline of each column, in per cent."""
    cells = []
    for contest in contests:
        ours, base = (float(part.lines[p].values[contest.column].mean()) for p in (contest.line, contest.rival))
        change = 100.0 * (ours - base) / base if base else None
        cells.append(Cell(value=change, p_value=answers[contest], significant=answers[contest] < ALPHA))
    return Row("Improvement", tuple(cells), Unit.CHANGE, apart=True)


def _improvement_note(parts: Sequence[Part], contests: Sequence[Contest]) -> list[str]:
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


def _variant_note(lines: Sequence[Line], contests: Sequence[Contest], slicing: Slicing | None) -> list[str]:
    """What the stars of an ablation table say, or why there are none."""
    full = [line for line in lines if line.group.record.variant == "full"]
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


def _interval_notes(lines: Sequence[Line], slicing: Slicing | None, intervals: bool) -> list[str]:
    """What the intervals hold, and what they do not."""
    if not intervals:
        return []
    most = max(len(line.group.seeds) for line in lines)
    notes = [f"[low, high]: 95 %, bootstrap over users{' and seeds' * (most > 1)}, not of a difference between rows."]
    if most > 1:
        notes.append("Intervals of few seeds are too narrow for what seeds vary: they never leave the seeds' range.")
    if most > 1 and slicing is not None and slicing.by_codes:
        notes.append("No interval where a slice's users differ between seeds.")
    return notes


def _reading_notes(lines: Sequence[Line]) -> list[str]:
    """How to read the values: seeds, marks, contract."""
    record = lines[0].group.record
    contract = ", ".join(f"{name}={value}" for name, value in record.contract.items())
    most = max(len(line.group.seeds) for line in lines)
    spread = "Mean ± standard deviation over seeds." if most > 1 else "One seed: training randomness is not measured."
    return [
        spread,
        f"{lines[0].values[0].shape[1]:,} users; contract {record.contract_digest}: {contract}.",
    ]


def _reference(
    dataset: str, published: bool, paper_dataset: str | None, table: Literal["overall", "ablation"]
) -> tuple[paper.Published, list[str]]:
    """The paper's values for the data set, empty where it has none, and a note on the comparison."""
    if not published and paper_dataset is None:
        return {}, []
    name = paper_dataset or paper.PAPER_DATASETS.get(dataset)
    if name is None:
        known = ", ".join(f"{ours} → {theirs}" for ours, theirs in paper.PAPER_DATASETS.items())
        return {}, [f"The paper prints no numbers for {dataset} (its data sets: {known})."]
    if name not in paper.datasets():
        raise ResultsError(f"unknown data set of the paper '{name}'; known: {', '.join(paper.datasets())}")
    note = f"Paper: published value on {name}; difference: ours - paper."
    if paper.PAPER_DATASETS.get(dataset) != name:
        note += f" {dataset} is other data than the paper's {name}."
    return (paper.overall if table == "overall" else paper.ablation)(name), [note]


def _preset_note(lines: Sequence[Line], reference: paper.Published) -> list[str]:
    """A warning where the paper's values stand beside runs of other sizes and schedules than the paper's."""
    presets = sorted({line.group.record.preset for line in lines} - {"paper"})
    if not reference or not presets:
        return []
    return [f"Not at the paper's sizes and schedules: preset {', '.join(presets)}."]


def _with_published(row: Row, columns: Sequence[MetricColumn], reference: paper.Published) -> Row:
    cells = zip(row.cells, columns, strict=True)
    return replace(row, cells=tuple(_against(cell, reference.get((row.label, *column))) for cell, column in cells))


def _against(cell: Cell, printed: float | None) -> Cell:
    """The cell with the paper's value and our difference from it, where there is one."""
    if printed is None or cell.value is None:
        return cell
    return replace(cell, published=float(printed), difference=cell.value - printed)
