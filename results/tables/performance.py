"""The paper's Tables 3 and 4, made from runs on disk; `results.tables.contests` says what their stars mean."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from results.errors import ResultsError
from results.published import paper
from results.published.registry import Registry
from results.statistics.inference import ALPHA
from results.statistics.metrics.registry import known_metrics, rank_metrics
from results.store.contract import told
from results.store.selection import Filters, check_one_population, dataset_label, select_runs
from results.tables.content import Origin, Table, TableCell, TableColumn, TableRow, Unit, against
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
from results.tables.elsewhere import with_figures
from results.tables.lines import (
    Line,
    MetricColumn,
    Part,
    grouped,
    headed,
    judged,
    line_of,
    list_cells,
    part_rows,
    parts_of,
)
from results.tables.slices import Slicing

PAPER_COLUMNS: tuple[MetricColumn, ...] = (("Recall", 5), ("Recall", 10), ("NDCG", 5), ("NDCG", 10))


@dataclass(frozen=True, kw_only=True)
class View:
    """What a leaderboard shows of its runs."""

    columns: Sequence[MetricColumn] = PAPER_COLUMNS  # of ranks and of lists; those of lists stand last
    titles: Mapping[str, str] = field(default_factory=dict)  # of metrics that the headings name otherwise
    published: bool = False  # the paper's values beside ours, where the data set is one of the paper's
    elsewhere: Registry | None = None  # what other sources report below ours, where its counts are our data set's
    paper_dataset: str | None = None  # the one to compare with instead
    slicing: Slicing | None = None  # each slice of the users under its own heading
    intervals: bool = False  # bootstrap intervals

    @property
    def by_user(self) -> list[MetricColumn]:
        """The columns that have a value per user."""
        return [column for column in self.columns if column[0] in rank_metrics()]

    @property
    def of_lists(self) -> list[MetricColumn]:
        """The columns that have one value per run."""
        return [column for column in self.columns if column[0] not in rank_metrics()]

    def checked(self) -> "View":
        """The view; `ResultsError` for an unknown metric, and for one of whole lists where users are sliced."""
        for metric, _ in self.columns:
            if metric not in known_metrics():
                raise ResultsError(f"unknown metric '{metric}'; known: {', '.join(known_metrics())}")
        if self.slicing is not None and self.of_lists:
            raise ResultsError(
                f"slices need metrics of single users, but {self.of_lists[0][0]} is of all lists together; leave it out"
            )
        return self


def overall_table(runs_dir: Path, dataset: str, filters: Filters | None = None, view: View | None = None) -> Table:
    """Table 3: every unchanged method on one data set.

    Errors as in `select_runs`, and for runs that kept no cases to slice by.
    """
    view = (view or View()).checked()
    selection = select_runs(runs_dir, dataset, filters, variant="full")
    lines = [line_of(row, view.by_user) for row in selection.rows]
    check_one_population(selection.rows)
    parts, slice_notes = parts_of(lines, view.slicing)
    best, against_best = best_contests(parts, view.slicing), improvement_contests(parts, view.slicing)
    answers = answered(parts, [*best, *against_best], None if view.slicing is None else whole_table)
    reference, reference_note = _reference(lines, view, "overall")
    rows = []
    for index, part in enumerate(parts):
        made = starred(grouped(part_rows(part, view.slicing, view.intervals), part), _of_part(best, index), answers)
        improvement = _of_part(against_best, index)
        made += [improvement_row(part, improvement, answers)] if improvement else []
        rows += _finished(made, part, view, reference)
    correction = "" if view.slicing is None else ", Holm's correction over the table"
    star = (
        f"*: the best differs from the best of the other rows, p < {ALPHA} (paired two-sided t-test over users"
        f"{correction})."
    )
    others: list[str] = []
    if view.elsewhere is not None:
        rows, others = with_figures(rows, lines, [*view.by_user, *view.of_lists], view.elsewhere)
    notes = [*([star] if best else []), *improvement_note(parts, against_best), *slice_notes, *others]
    return _table("Overall performance", "Method", lines, rows, view, [*notes, *selection.notes, *reference_note])


def ablation_table(
    runs_dir: Path, dataset: str, method: str, filters: Filters | None = None, view: View | None = None
) -> Table:
    """Table 4: a method and its variants on one data set; errors as in `overall_table`."""
    view = (view or View()).checked()
    selection = select_runs(runs_dir, dataset, filters, method=method)
    lines = [line_of(row, view.by_user) for row in selection.rows]
    check_one_population(selection.rows)
    parts, slice_notes = parts_of(lines, view.slicing)
    contests = variant_contests(parts, view.slicing)
    answers = answered(parts, contests, column_of if view.slicing is None else whole_table)
    reference, reference_note = _reference(lines, view, "ablation")
    rows = []
    for index, part in enumerate(parts):
        made = starred(part_rows(part, view.slicing, view.intervals), _of_part(contests, index), answers)
        rows += _finished(made, part, view, reference)
    notes = [*variant_note(lines, contests, view.slicing), *slice_notes, *selection.notes, *reference_note]
    title = lines[0].runs.record.title
    return _table(f"Ablation study of {title}", "Variant", lines, rows, view, notes)


def _of_part(contests: Sequence[Contest], part: int) -> list[Contest]:
    return [contest for contest in contests if contest.part == part]


def _finished(rows: Sequence[TableRow], part: Part, view: View, reference: paper.Published) -> list[TableRow]:
    printed = {line.label: line.label.removesuffix(line.runs.suffix) for line in part.lines}  # by the paper
    lines = {line.label: line for line in part.lines}
    made = []
    for row in rows:
        label = printed.get(row.label, row.label)
        cells = zip(row.cells, view.by_user, strict=True)
        beside = tuple(against(cell, reference.get((label, *column))) for cell, column in cells)
        line = lines.get(row.label)
        empty = (TableCell(value=None),) * len(view.of_lists)
        beside += empty if line is None else list_cells(line, view.of_lists)
        made.append(headed(replace(row, cells=beside), part, view.slicing))
    return made


def _table(
    caption: str, corner: str, lines: Sequence[Line], rows: Sequence[TableRow], view: View, notes: Sequence[str]
) -> Table:
    """The table under its caption, with how to read it above the other notes."""
    record, cut = lines[0].runs.record, "" if view.slicing is None else f", by {view.slicing.title}"
    rules = told(record.contract, record.split)
    origin = Origin(record.dataset, record.dataset_fingerprint, record.contract_digest, rules)
    counted = "Cases" if record.num_users else "Users"
    users = () if view.slicing is None else (TableColumn(counted, Unit.COUNT, origin=origin),)
    shown = [(view.titles.get(metric, metric), k) for metric, k in (*view.by_user, *view.of_lists)]
    return Table(
        caption=f"{caption} on {dataset_label(record)}{cut}",
        corner=corner,
        columns=(*users, *(TableColumn(f"{title}@{k}", origin=origin) for title, k in shown)),
        rows=tuple(rows),
        notes=(*_reading_notes(lines), *_interval_notes(lines, view), *_unknown_notes(lines, view), *notes),
        subject=dataset_label(record),
    )


def _unknown_notes(lines: Sequence[Line], view: View) -> list[str]:
    """Of which rows a metric of lists is not known."""
    notes = []
    for metric, k in view.of_lists:
        without = [line.label for line in lines if list_cells(line, [(metric, k)])[0].value is None]
        notes += [f"{metric}@{k}: not stored with {', '.join(without)}."] if without else []
    return notes


def _interval_notes(lines: Sequence[Line], view: View) -> list[str]:
    """What the intervals hold, and what they do not."""
    if not view.intervals:
        return []
    most = max(len(line.runs.seeds) for line in lines)
    notes = [f"[low, high]: 95 %, bootstrap over users{' and seeds' * (most > 1)}, not of a difference between rows."]
    if most > 1:
        notes.append("Intervals of few seeds are too narrow for what seeds vary: they never leave the seeds' range.")
    if most > 1 and view.slicing is not None and view.slicing.by_codes:
        notes.append("No interval where a slice's users differ between seeds.")
    return notes


def _reading_notes(lines: Sequence[Line]) -> list[str]:
    """How to read the values: seeds, marks, contract."""
    most = max(len(line.runs.seeds) for line in lines)
    spread = "Mean ± standard deviation over seeds." if most > 1 else "One seed: training randomness is not measured."
    return [spread, *judged(lines[0].runs)]


def _reference(
    lines: Sequence[Line], view: View, table: Literal["overall", "ablation"]
) -> tuple[paper.Published, list[str]]:
    """The paper's values for the data set, empty where it has none, and notes on the comparison."""
    if not view.published and view.paper_dataset is None:
        return {}, []
    dataset = lines[0].runs.record.dataset
    name = view.paper_dataset or paper.PAPER_DATASETS.get(dataset)
    if name is None:
        known = ", ".join(f"{ours} → {theirs}" for ours, theirs in paper.PAPER_DATASETS.items())
        return {}, [f"The paper prints no numbers for {dataset} (its data sets: {known})."]
    if name not in paper.datasets():
        raise ResultsError(f"unknown data set of the paper '{name}'; known: {', '.join(paper.datasets())}")
    note = f"Paper: published value on {name}; difference: ours - paper."
    if paper.PAPER_DATASETS.get(dataset) != name:
        note += f" {dataset} is other data than the paper's {name}."
    presets = sorted({line.runs.record.preset for line in lines} - {"paper"})
    smaller = [f"Not at the paper's sizes and schedules: preset {', '.join(presets)}."] if presets else []
    return (paper.overall if table == "overall" else paper.ablation)(name), [note, *smaller]
