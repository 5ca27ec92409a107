"""What other sources report, set below the rows of a leaderboard."""

from collections.abc import Sequence
from dataclasses import replace

from results.published.registry import Figure, Registry, reports
from results.published.verdicts import differences, longest_history
from results.store.runs import Run
from results.tables.content import Beside, TableCell, TableRow
from results.tables.lines import Line, MetricColumn

SECTION = "Published elsewhere only"
OTHER_RULES = " ≠"  # behind a source


def with_figures(
    rows: Sequence[TableRow], lines: Sequence[Line], columns: Sequence[MetricColumn], known: Registry
) -> tuple[list[TableRow], list[str]]:
    """The rows with the lines of other sources below them, then the methods that only others ran, and notes.

    The data set is recognised by the users and items of its runs; a source under other rules than the row is marked.
    """
    judged, users = lines[0].runs, lines[0].values[0].shape[1]
    dataset = known.recognised(users, judged.record.num_items)
    figures = [figure for figure in known.of(dataset, paper=False) if not figure.ablation] if dataset else []
    if not figures:
        told = f"{judged.population} and {judged.record.num_items:,} items"
        return list(rows), [f"Nothing is published elsewhere on data with {told}, as far as is known here."]
    first = {line.runs.record.title.casefold(): line.runs.runs[0] for line in lines}
    labels = {line.label: line.runs.record.title.casefold() for line in lines}
    made = []
    for row in rows:
        title = labels.get(row.label, "")
        own = [figure for figure in figures if figure.method.casefold() == title]
        made.append(replace(row, beside=_below(own, columns, first.get(title))))
    empty = (TableCell(value=None),) * len(columns)
    for method in dict.fromkeys(f.method for f in figures if f.method.casefold() not in first):
        own = [figure for figure in figures if figure.method == method]
        if below := _below(own, columns, None):
            made.append(TableRow(method, empty, section=SECTION, beside=below))
    note = f"Dim lines: what others report on {dataset}; harness published lists the sources."
    marked = any(other.label.endswith(OTHER_RULES) for row in made for other in row.beside)
    rule = f"{OTHER_RULES.strip()}: under other rules than the row above; harness verify says which."
    return made, [note, *([rule] if marked else [])]


def _below(figures: Sequence[Figure], columns: Sequence[MetricColumn], run: Run | None) -> tuple[Beside, ...]:
    """A line for each source and variant that reports one of the columns."""
    longest = longest_history(run) if run is not None and figures else 0
    made = []
    for report in reports(figures):
        found = {(figure.metric, figure.k): figure.value for figure in report}
        values = tuple(found.get(column) for column in columns)
        if any(value is not None for value in values):
            made.append(Beside(report[0].label + _mark(report[0], run, longest), values))
    return tuple(made)


def _mark(figure: Figure, run: Run | None, longest: int) -> str:
    return OTHER_RULES if run is not None and differences(figure.rules, run.record, longest) else ""
