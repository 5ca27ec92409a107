"""The paper's Tables 2 to 4, made from runs on disk; `results.tables.contests` says what their stars mean."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from results.errors import ResultsError
from results.published import paper
from results.statistics.tests import ALPHA
from results.store.selection import Filters, check_one_population, select_runs
from results.tables.contests import (
    Contest,
    answered,
    best_contests,
    column_of,
    improvement_contests,
    improvement_note,
    improvement_row,
    starred,
    variant_contests,
    variant_note,
    whole_table,
)
from results.tables.lines import Line, MetricColumn, Part, headed, line_of, part_rows, parts_of
from results.tables.slices import Slicing
from results.tables.table import Cell, Column, Row, Table, Unit

PAPER_COLUMNS: tuple[MetricColumn, ...] = (("Recall", 5), ("Recall", 10), ("NDCG", 5), ("NDCG", 10))


@dataclass(frozen=True, kw_only=True)
class View:
    """What a leaderboard shows of its runs."""

    columns: Sequence[MetricColumn] = PAPER_COLUMNS
    published: bool = False  # the paper's values beside ours, where the data set is one of the paper's
    paper_dataset: str | None = None  # the one to compare with instead
    slicing: Slicing | None = None  # each slice of the users under its own heading
    intervals: bool = False  # bootstrap intervals


def overall_table(runs_dir: Path, dataset: str, filters: Filters | None = None, view: View | None = None) -> Table:
    """Table 3: every unchanged method on one data set.

    Errors as in `select_runs`, and for runs that kept no cases to slice by.
    """
    view = view or View()
    selection = select_runs(runs_dir, dataset, filters, variant="full")
    lines = [line_of(group, group.method_label, view.columns) for group in selection.groups]
    check_one_population(selection.groups)
    parts, slice_notes = parts_of(lines, view.slicing)
    best, against_best = best_contests(parts, view.slicing), improvement_contests(parts, view.slicing)
    answers = answered(parts, [*best, *against_best], None if view.slicing is None else whole_table)
    reference, reference_note = _reference(lines, view, "overall")
    rows = []
    for index, part in enumerate(parts):
        made = starred(part_rows(part, view.slicing, view.intervals), _of_part(best, index), answers)
        improvement = _of_part(against_best, index)
        made += [improvement_row(part, improvement, answers)] if improvement else []
        rows += _finished(made, part, view, reference)
    correction = "" if view.slicing is None else ", Holm's correction over the table"
    star = (
        f"*: the best differs from the best of the other rows, p < {ALPHA} (paired two-sided t-test over users"
        f"{correction})."
    )
    notes = [*([star] if best else []), *improvement_note(parts, against_best), *slice_notes]
    return _table("Overall performance", "Method", lines, rows, view, [*notes, *selection.notes, *reference_note])


def ablation_table(
    runs_dir: Path, dataset: str, method: str, filters: Filters | None = None, view: View | None = None
) -> Table:
    """Table 4: a method and its variants on one data set; errors as in `overall_table`."""
    view = view or View()
    selection = select_runs(runs_dir, dataset, filters, method=method)
    lines = [line_of(group, group.variant_label, view.columns) for group in selection.groups]
    check_one_population(selection.groups)
    parts, slice_notes = parts_of(lines, view.slicing)
    contests = variant_contests(parts, view.slicing)
    answers = answered(parts, contests, column_of if view.slicing is None else whole_table)
    reference, reference_note = _reference(lines, view, "ablation")
    rows = []
    for index, part in enumerate(parts):
        made = starred(part_rows(part, view.slicing, view.intervals), _of_part(contests, index), answers)
        rows += _finished(made, part, view, reference)
    notes = [*variant_note(lines, contests, view.slicing), *slice_notes, *selection.notes, *reference_note]
    title = lines[0].group.record.title
    return _table(f"Ablation study of {title}", "Variant", lines, rows, view, notes)


def _of_part(contests: Sequence[Contest], part: int) -> list[Contest]:
    return [contest for contest in contests if contest.part == part]


def _finished(rows: Sequence[Row], part: Part, view: View, reference: paper.Published) -> list[Row]:
    printed = {line.label: line.label.removesuffix(line.group.suffix) for line in part.lines}  # by the paper
    made = []
    for row in rows:
        label = printed.get(row.label, row.label)
        cells = zip(row.cells, view.columns, strict=True)
        against = tuple(_against(cell, reference.get((label, *column))) for cell, column in cells)
        made.append(headed(replace(row, cells=against), part, view.slicing))
    return made


def _table(
    caption: str, corner: str, lines: Sequence[Line], rows: Sequence[Row], view: View, notes: Sequence[str]
) -> Table:
    """The table under its caption, with how to read it above the other notes."""
    record, cut = lines[0].group.record, "" if view.slicing is None else f", by {view.slicing.title}"
    dataset = f"{record.dataset} (synthetic)" if record.synthetic else record.dataset
    users = () if view.slicing is None else (Column("Users", Unit.COUNT),)
    return Table(
        caption=f"{caption} on {dataset}{cut}",
        corner=corner,
        columns=(*users, *(Column(f"{metric}@{k}") for metric, k in view.columns)),
        rows=tuple(rows),
        notes=(*_reading_notes(lines), *_interval_notes(lines, view), *notes),
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


def _interval_notes(lines: Sequence[Line], view: View) -> list[str]:
    """What the intervals hold, and what they do not."""
    if not view.intervals:
        return []
    most = max(len(line.group.seeds) for line in lines)
    notes = [f"[low, high]: 95 %, bootstrap over users{' and seeds' * (most > 1)}, not of a difference between rows."]
    if most > 1:
        notes.append("Intervals of few seeds are too narrow for what seeds vary: they never leave the seeds' range.")
    if most > 1 and view.slicing is not None and view.slicing.by_codes:
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
    lines: Sequence[Line], view: View, table: Literal["overall", "ablation"]
) -> tuple[paper.Published, list[str]]:
    """The paper's values for the data set, empty where it has none, and notes on the comparison."""
    if not view.published and view.paper_dataset is None:
        return {}, []
    dataset = lines[0].group.record.dataset
    name = view.paper_dataset or paper.PAPER_DATASETS.get(dataset)
    if name is None:
        known = ", ".join(f"{ours} → {theirs}" for ours, theirs in paper.PAPER_DATASETS.items())
        return {}, [f"The paper prints no numbers for {dataset} (its data sets: {known})."]
    if name not in paper.datasets():
        raise ResultsError(f"unknown data set of the paper '{name}'; known: {', '.join(paper.datasets())}")
    note = f"Paper: published value on {name}; difference: ours - paper."
    if paper.PAPER_DATASETS.get(dataset) != name:
        note += f" {dataset} is other data than the paper's {name}."
    presets = sorted({line.group.record.preset for line in lines} - {"paper"})
    smaller = [f"Not at the paper's sizes and schedules: preset {', '.join(presets)}."] if presets else []
    return (paper.overall if table == "overall" else paper.ablation)(name), [note, *smaller]


def _against(cell: Cell, printed: float | None) -> Cell:
    """The cell with the paper's value and our difference from it, where there is one."""
    if printed is None or cell.value is None:
        return cell
    return replace(cell, published=float(printed), difference=cell.value - printed)
