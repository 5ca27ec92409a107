"""A `Table` on a terminal: column groups side by side where they fit, else below each other."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table as Grid
from rich.text import Text

from results.tables.content import Table, TableCell, Unit, format_value
from results.tables.marks import UNKNOWN, groups_of, lines_below, notes_of, units_of, with_sections
from results.terminal.grids import headed_grid

BEST, SECOND = "¹", "²"  # where there is neither bold nor underlined print
LABEL_WIDTH = 28  # of a line below a row; other forms have it whole
LAYOUTS = ((1, False), (0, False), (0, True))  # padding of the columns, intervals on two lines


@dataclass(frozen=True)
class RichTable:
    """A table for a rich console: best bold, second underlined, what others report dim below ours.

    Where the console would cut columns, they move closer together, intervals take two lines, and groups of columns, or
    at last single columns, go below each other. Without styles the best and the second carry a raised figure.
    """

    table: Table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        styled = console.color_system is not None
        yield Text(self.table.caption, "bold")
        for place, (table, padding, narrow) in enumerate(_fitting(self.table, console, options, styled)):
            if place:
                yield Text()
            grid = _grid(table, padding, narrow, styled)
            groups = groups_of(table)
            if groups:
                heading = console.render_lines(grid, options, pad=False)[0]
                yield _group_line("".join(segment.text for segment in heading), table, groups)
            yield grid
        yield Text()
        marks = () if styled else (BEST, SECOND)
        for note in notes_of(self.table, *marks):
            yield Text(note, "dim")


def _fitting(table: Table, console: Console, options: ConsoleOptions, styled: bool) -> list[tuple[Table, int, bool]]:
    """The table in as few parts as the console's width asks for, each with the padding and form of its intervals."""
    unbounded = options.update(max_width=10_000)
    parts = [table]
    for parts in _divisions(table):
        for padding, narrow in LAYOUTS:
            grids = [_grid(part, padding, narrow, styled) for part in parts]
            if all(console.measure(grid, options=unbounded).maximum <= options.max_width for grid in grids):
                return [(part, padding, narrow) for part in parts]
    return [(part, *LAYOUTS[-1]) for part in parts]  # narrower than a single column


def _divisions(table: Table) -> Iterator[list[Table]]:
    """The table in ever more parts: whole, of ever fewer groups of columns, then of ever fewer columns."""
    for counts in ([count for _, count in groups_of(table)], [1] * len(table.columns)):
        for at_once in range(len(counts), 0, -1):
            yield list(_parts(table, counts, at_once))


def _parts(table: Table, counts: Sequence[int], at_once: int) -> Iterator[Table]:
    """The table cut into so many runs of columns at once, without the rows that have no value there.

    `counts` are the runs' columns.
    """
    if at_once >= len(counts):
        yield table
        return
    ends = [0, *accumulate(counts)]
    for first in range(0, len(counts), at_once):
        cut = slice(ends[first], ends[min(first + at_once, len(counts))])
        rows = [
            replace(
                row,
                cells=row.cells[cut],
                beside=tuple(replace(other, values=other.values[cut]) for other in row.beside),
            )
            for row in table.rows
        ]
        kept = [row for row in rows if any(cell.value is not None for cell in row.cells)]
        yield replace(table, columns=table.columns[cut], rows=tuple(kept))


def _group_line(heading: str, table: Table, groups: list[tuple[str, int]]) -> Text:
    """The names of the groups, each above its first column."""
    starts, position = [], len(table.corner)
    for column in table.columns:
        starts.append(heading.find(column.name, position))
        position = starts[-1] + len(column.name)
    firsts, place = [], 0
    for _, count in groups:
        firsts.append(starts[place])
        place += count
    line = Text()
    for (group, _), start, end in zip(groups, firsts, [*firsts[1:], None], strict=True):
        line.append(" " * (start - len(line)))
        room = len(group) if end is None else end - start - 1
        line.append(group if len(group) <= room else group[: room - 1] + "…", "bold")
    return line


def _grid(table: Table, padding: int, narrow: bool, styled: bool) -> Grid:
    grid = headed_grid(table.corner, padding=(0, padding), no_wrap=True)
    for column in table.columns:
        # Metrics have one width, so they align on the left and leave their ± and * to hang on the right.
        grid.add_column(column.name, no_wrap=True, justify="left" if column.unit is Unit.METRIC else "right")
    for row, opened in with_sections(table):
        if row.apart or opened:
            grid.add_section()
        if opened:
            grid.add_row(Text(opened, "italic"))
        units = units_of(table, row)
        values = [_cell(cell, unit, styled) for cell, unit in zip(row.cells, units, strict=True)]
        grid.add_row(Text(row.label), *values)
        for label, texts in lines_below(row, units, narrow):
            grid.add_row(Text(f"  {_short(label)}", "dim"), *[Text(text, "dim") for text in texts])
    return grid


def _short(label: str) -> str:
    """A label that leaves room for numbers; the mark at its end stays."""
    if len(label) <= LABEL_WIDTH:
        return label
    end = label[-2:] if label[-2] == " " else ""
    return label[: LABEL_WIDTH - 1 - len(end)] + "…" + end


def _cell(cell: TableCell, unit: Unit, styled: bool) -> Text:
    if cell.value is None:
        return Text(UNKNOWN)
    style = "bold" if cell.best else "underline" if cell.second else ""
    text = Text().append(format_value(cell.value, unit), style)
    if cell.std is not None:
        text.append("±" + format_value(cell.std, unit).removeprefix("0"), "dim")
    text.append("*" if cell.significant else "")
    return text if styled else text.append(BEST if cell.best else SECOND if cell.second else "")
