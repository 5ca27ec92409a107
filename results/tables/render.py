"""A `Table` as text: terminal, Markdown, LaTeX, HTML, CSV, JSON."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from typing import Any

from rich.console import Console

from results.errors import ResultsError
from results.tables.console import RichTable
from results.tables.content import Origin, Table, TableCell, TableRow
from results.tables.hypertext import to_html
from results.tables.latex import to_latex
from results.tables.marks import lines_below, marked, notes_of, units_of, with_sections

SCHEMA_VERSION = 2  # of csv and json; raised when a field changes its name or its meaning


def render(table: Table, format: str, *, width: int = 100) -> str:
    """The table in one of `FORMATS`; `width` (characters) matters to "text" alone. `ResultsError` if unknown."""
    if format == "text":
        return to_text(table, width)
    if format not in FORMATS:
        raise ResultsError(f"unknown format '{format}'; known: text, {', '.join(FORMATS)}")
    return FORMATS[format](table)


def to_text(table: Table, width: int) -> str:
    """Plain text, `width` characters wide; raised figures mark best and second."""
    console = Console(width=width, file=io.StringIO(), color_system=None, legacy_windows=False)
    with console.capture() as captured:
        console.print(RichTable(table), highlight=False)
    return "\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n"


def to_markdown(table: Table) -> str:
    """A GitHub table: best in bold, second underlined by <u>, what others report in rows below ours."""
    heads = [f"{column.group}<br>{column.name}" if column.group else column.name for column in table.columns]
    lines = [[table.corner, *heads]]
    for row, opened in with_sections(table):
        if opened:
            lines.append([f"**{opened}**", *[""] * len(table.columns)])
        units = units_of(table, row)
        cells = [marked(c, u, "**{}**", "<u>{}</u>", " ± ", r"\*") for c, u in zip(row.cells, units, strict=True)]
        lines.append([row.label, *cells])
        lines.extend([f"*{label}*", *texts] for label, texts in lines_below(row, units))
    lines = [[text.replace("|", r"\|") for text in line] for line in lines]
    widths = [max(len(line[place]) for line in lines) for place in range(len(lines[0]))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]

    def joined(line: list[str]) -> str:
        first, *rest = line
        return "| " + " | ".join([first.ljust(widths[0]), *map(str.rjust, rest, widths[1:])]) + " |"

    body = [joined(lines[0]), joined(rule), *map(joined, lines[1:])]
    notes = [f"- {note}".replace("*", r"\*") for note in notes_of(table)]
    return "\n".join([f"**{table.caption}**", "", *body, *([""] if notes else []), *notes]) + "\n"


def to_csv(table: Table) -> str:
    """One line per value, full precision; an empty field is unknown.

    `schema` is `SCHEMA_VERSION`; dataset, fingerprint, contract and rules say what the value was made from, `config`
    is the digest of its config; `source` is empty for ours and names who reports the value otherwise.
    """
    out = io.StringIO()
    cells = list(asdict(TableCell(value=None)))
    origin = list(asdict(Origin("", "")))
    places = ["row", "column", "unit"]
    writer = csv.DictWriter(out, ["schema", *origin, *places, *cells, "section", "source"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(line for row in table.rows for line in _csv_lines(table, row))
    return out.getvalue()


def _csv_lines(table: Table, row: TableRow) -> Iterator[dict[str, Any]]:
    """A line for each cell of the row, and for each value beside it."""
    for place, (column, unit) in enumerate(zip(table.columns, units_of(table, row), strict=True)):
        made_from = row.origin or column.origin or Origin(column.group, "")
        about = {"schema": SCHEMA_VERSION, "row": row.label, "column": column.name, "unit": unit.value}
        about |= {"section": row.section} | asdict(made_from)
        yield about | asdict(row.cells[place])
        for other in row.beside:
            if (value := other.values[place]) is not None:
                elsewhere = asdict(replace(Origin("", ""), dataset=made_from.dataset))
                yield about | elsewhere | asdict(TableCell(value=value)) | {"source": other.label}


def to_json(table: Table) -> str:
    """The whole table value, full precision, under the number of its schema."""
    return json.dumps({"schema": SCHEMA_VERSION, **asdict(table)}, indent=1, ensure_ascii=False) + "\n"


FORMATS: dict[str, Callable[[Table], str]] = {
    "markdown": to_markdown,
    "latex": to_latex,
    "html": to_html,
    "csv": to_csv,
    "json": to_json,
}
ENDINGS = {  # of a file → its format
    ".txt": "text",
    ".md": "markdown",
    ".tex": "latex",
    ".html": "html",
    ".htm": "html",
    ".csv": "csv",
    ".json": "json",
}
