"""What all printed forms of a table share: the lines below a row, marks, notes, headings of column groups."""

from collections.abc import Iterator
from itertools import groupby

from results.tables.content import Table, TableCell, TableRow, Unit, format_difference, format_value

UNKNOWN = "–"
PAPER = "paper"
DIFFERENCE = "ours - paper"
INTERVAL = "95 % interval"


def legend(table: Table, best: str = "Bold", second: str = "underlined") -> str:
    """What the marks mean; empty where there is none."""
    marked = any(cell.best for row in table.rows for cell in row.cells)
    return f"{best}: best; {second}: second best." if marked else ""


def notes_of(table: Table, best: str = "Bold", second: str = "underlined") -> list[str]:
    """The notes below a table, the meaning of its marks first."""
    return [note for note in (legend(table, best, second), *table.notes) if note]


def units_of(table: Table, row: TableRow) -> list[Unit]:
    """The unit of each of the row's cells."""
    return [row.unit or column.unit for column in table.columns]


def groups_of(table: Table) -> list[tuple[str, int]]:
    """The groups of columns that stand side by side, each with its number of columns; empty for an ungrouped table."""
    groups = [(group, len(list(members))) for group, members in groupby(table.columns, lambda column: column.group)]
    return groups if any(group for group, _ in groups) else []


def with_sections(table: Table) -> Iterator[tuple[TableRow, str]]:
    """Each row with the section that it opens; empty where it stands in the one before."""
    before = ""
    for row in table.rows:
        yield row, row.section if row.section != before else ""
        before = row.section


def lines_below(row: TableRow, units: list[Unit], narrow: bool = False) -> list[tuple[str, list[str]]]:
    """The lines below a row, each only where it has values.

    These are its intervals, the paper's values and ours minus the paper's, and what other sources report.
    """
    pairs = list(zip(row.cells, units, strict=True))
    lines = []
    if any(cell.low is not None for cell in row.cells):
        ends = [_ends(cell, unit) for cell, unit in pairs]
        if narrow:
            lines += [(f"{INTERVAL}:", [low for low, _ in ends]), ("to", [high for _, high in ends])]
        else:
            lines.append((INTERVAL, [f"[{low}, {high}]" if low else "" for low, high in ends]))
    if any(cell.published is not None for cell in row.cells):
        printed = [UNKNOWN if c.published is None else format_value(c.published, u) for c, u in pairs]
        differences = [UNKNOWN if c.difference is None else format_difference(c.difference, u) for c, u in pairs]
        lines += [(PAPER, printed), (DIFFERENCE, differences)]
    for other in row.beside:
        values = zip(other.values, units, strict=True)
        lines.append((other.label, [UNKNOWN if value is None else format_value(value, unit) for value, unit in values]))
    return lines


def _ends(cell: TableCell, unit: Unit) -> tuple[str, str]:
    """The ends of the interval, without the zeros before the point; empty where there is none."""
    if cell.low is None or cell.high is None:
        return "", ""
    low, high = (format_value(end, unit).removeprefix("0") for end in (cell.low, cell.high))
    return low, high


def marked(cell: TableCell, unit: Unit, best: str, second: str, plus_minus: str, star: str) -> str:
    """The value with its marks: `best` and `second` are templates around the number."""
    if cell.value is None:
        return UNKNOWN
    text = format_value(cell.value, unit)
    text = best.format(text) if cell.best else second.format(text) if cell.second else text
    spread = "" if cell.std is None else plus_minus + format_value(cell.std, unit)
    return text + spread + (star if cell.significant else "")
