"""A `Table` as text: terminal, Markdown, LaTeX (booktabs), HTML, CSV, JSON."""

import csv
import html
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table as Grid
from rich.text import Text

from results.errors import ResultsError
from results.tables.content import Table, TableCell, TableRow, Unit, format_difference, format_value

UNKNOWN = "–"
PAPER = "paper"
DIFFERENCE = "ours - paper"
INTERVAL = "95 % interval"


def render(table: Table, format: str, *, width: int = 100) -> str:
    """The table in one of `FORMATS`; `width` (characters) matters to "text" alone. `ResultsError` if unknown."""
    if format == "text":
        return to_text(table, width)
    if format not in FORMATS:
        raise ResultsError(f"unknown format '{format}'; known: text, {', '.join(FORMATS)}")
    return FORMATS[format](table)


@dataclass(frozen=True)
class RichTable:
    """A table for a rich console: best bold, second underlined, the paper's values dim below ours.

    Columns move closer together, and intervals take two lines, where the console would cut them otherwise.
    """

    table: Table
    legend: bool = True  # says what bold and underlined mean

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        unbounded = options.update(max_width=10_000)
        for padding, narrow in ((1, False), (0, False), (0, True)):
            grid = _grid(self.table, padding, narrow)
            if console.measure(grid, options=unbounded).maximum <= options.max_width:
                break
        yield Text(self.table.caption, "bold")
        yield grid
        yield Text()
        for note in _notes(self.table) if self.legend else self.table.notes:
            yield Text(note, "dim")


def to_rich(table: Table) -> RichTable:
    """A renderable for a rich console."""
    return RichTable(table)


def to_text(table: Table, width: int) -> str:
    """Plain text, `width` characters wide, without marks of best and second."""
    console = Console(width=width, file=io.StringIO(), color_system=None, legacy_windows=False)
    with console.capture() as captured:
        console.print(RichTable(table, legend=False), highlight=False)
    return "\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n"


def to_markdown(table: Table) -> str:
    """A GitHub table: best in bold, second underlined by <u>, the paper's values in rows below ours."""
    lines = [[table.corner, *(column.name for column in table.columns)]]
    for row, opened in _with_sections(table):
        if opened:
            lines.append([f"**{opened}**", *[""] * len(table.columns)])
        units = _units(table, row)
        cells = [_marked(c, u, "**{}**", "<u>{}</u>", " ± ", r"\*") for c, u in zip(row.cells, units, strict=True)]
        lines.append([row.label, *cells])
        lines.extend([f"*{label}*", *texts] for label, texts in _lines_below(row, units))
    lines = [[text.replace("|", r"\|") for text in line] for line in lines]
    widths = [max(len(line[place]) for line in lines) for place in range(len(lines[0]))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]

    def joined(line: list[str]) -> str:
        first, *rest = line
        return "| " + " | ".join([first.ljust(widths[0]), *map(str.rjust, rest, widths[1:])]) + " |"

    body = [joined(lines[0]), joined(rule), *map(joined, lines[1:])]
    notes = [f"- {note}".replace("*", r"\*") for note in _notes(table)]
    return "\n".join([f"**{table.caption}**", "", *body, *([""] if notes else []), *notes]) + "\n"


def to_latex(table: Table) -> str:
    """A floating table for the booktabs package: best \\textbf, second \\underline, notes below in small print."""
    body: list[str] = []
    for row, opened in _with_sections(table):
        units = _units(table, row)
        if row.apart or (opened and body):
            body.append(r"\midrule")
        if opened:
            body.append(rf"\multicolumn{{{1 + len(table.columns)}}}{{l}}{{\textit{{{_latex(opened)}}}}} \\")
        cells = [_latex_cell(cell, unit) for cell, unit in zip(row.cells, units, strict=True)]
        body.append(" & ".join([_latex(row.label), *cells]) + r" \\")
        for label, texts in _lines_below(row, units):
            body.append(" & ".join([rf"\quad\textit{{{_latex(label)}}}", *map(_latex_number, texts)]) + r" \\")
    heading = " & ".join(_latex(name) for name in [table.corner, *(column.name for column in table.columns)])
    notes = " \\\\\n".join(_latex(note) for note in _notes(table))
    lines = [
        "% needs \\usepackage{booktabs}",
        r"\begin{table}",
        r"\centering\small",
        rf"\caption{{{_latex(table.caption)}}}",
        rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}",
        r"\toprule",
        heading + r" \\",
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
        *([r"\par\smallskip", rf"\parbox{{\linewidth}}{{\footnotesize {notes}}}"] if notes else []),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def to_csv(table: Table) -> str:
    """One line per value, full precision: row, column, unit, the cell's fields, section; an empty field is unknown."""
    out = io.StringIO()
    fields = list(asdict(TableCell(value=None)))
    writer = csv.DictWriter(out, ["row", "column", "unit", *fields, "section"], lineterminator="\n")
    writer.writeheader()
    for row in table.rows:
        for column, unit, cell in zip(table.columns, _units(table, row), row.cells, strict=True):
            place = {"row": row.label, "column": column.name, "unit": unit.value, "section": row.section}
            writer.writerow(place | asdict(cell))
    return out.getvalue()


def to_json(table: Table) -> str:
    """The whole table value, full precision."""
    return json.dumps(asdict(table), indent=1, ensure_ascii=False) + "\n"


def to_html(table: Table) -> str:
    """A self-contained page, light or dark as the reader's system asks."""
    return _PAGE.format(title=html.escape(table.caption), style=_STYLE, body=html_fragment(table))


def html_fragment(table: Table) -> str:
    """A <figure> with the table and its notes, to be put into a page that has a style of its own."""
    body = []
    for row, opened in _with_sections(table):
        if opened:
            span = 1 + len(table.columns)
            body.append(f'<tr class="section"><th colspan="{span}" scope="rowgroup">{html.escape(opened)}</th></tr>')
        units = _units(table, row)
        apart = ' class="apart"' if row.apart else ""
        cells = "".join(_html_cell(cell, unit) for cell, unit in zip(row.cells, units, strict=True))
        body.append(f'<tr{apart}><th scope="row">{html.escape(row.label)}</th>{cells}</tr>')
        for label, texts in _lines_below(row, units):
            cells = "".join(f"<td>{html.escape(text)}</td>" for text in texts)
            body.append(f'<tr class="paper"><th scope="row">{label}</th>{cells}</tr>')
    heading = "".join(f'<th scope="col">{html.escape(column.name)}</th>' for column in table.columns)
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in _notes(table))
    rows = "\n".join(body)
    return (
        f"<figure>\n<figcaption>{html.escape(table.caption)}</figcaption>\n<table>\n"
        f'<thead><tr><th scope="col">{html.escape(table.corner)}</th>{heading}</tr></thead>\n'
        f"<tbody>\n{rows}\n</tbody>\n</table>\n<ul>{notes}</ul>\n</figure>"
    )


FORMATS: dict[str, Callable[[Table], str]] = {
    "markdown": to_markdown,
    "latex": to_latex,
    "html": to_html,
    "csv": to_csv,
    "json": to_json,
}


def _legend(table: Table) -> str:
    """What the marks mean; empty where there is none."""
    marked = any(cell.best for row in table.rows for cell in row.cells)
    return "Bold: best; underlined: second best." if marked else ""


def _notes(table: Table) -> list[str]:
    return [note for note in (_legend(table), *table.notes) if note]


def _grid(table: Table, padding: int, narrow: bool) -> Grid:
    grid = Grid(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, padding), collapse_padding=True)
    grid.add_column(table.corner, no_wrap=True)
    for column in table.columns:
        # Metrics have one width, so they align on the left and leave their ± and * to hang on the right.
        grid.add_column(column.name, no_wrap=True, justify="left" if column.unit is Unit.METRIC else "right")
    for row, opened in _with_sections(table):
        if row.apart or opened:
            grid.add_section()
        if opened:
            grid.add_row(Text(opened, "italic"))
        units = _units(table, row)
        values = [_rich_cell(cell, unit) for cell, unit in zip(row.cells, units, strict=True)]
        grid.add_row(Text(row.label), *values)
        for label, texts in _lines_below(row, units, narrow):
            grid.add_row(Text(f"  {label}", "dim"), *[Text(text, "dim") for text in texts])
    return grid


def _units(table: Table, row: TableRow) -> list[Unit]:
    return [row.unit or column.unit for column in table.columns]


def _with_sections(table: Table) -> Iterator[tuple[TableRow, str]]:
    """Each row with the section that it opens; empty where it stands in the one before."""
    before = ""
    for row in table.rows:
        yield row, row.section if row.section != before else ""
        before = row.section


def _lines_below(row: TableRow, units: list[Unit], narrow: bool = False) -> list[tuple[str, list[str]]]:
    """The lines below a row: its intervals, the paper's values, ours minus the paper's; each only where there are."""
    pairs = list(zip(row.cells, units, strict=True))
    lines = []
    if any(cell.low is not None for cell in row.cells):
        ends = [_ends(cell, unit) for cell, unit in pairs]
        if narrow:
            lines += [(f"{INTERVAL}:", [low for low, _ in ends]), ("to", [high for _, high in ends])]
        else:
            lines.append((INTERVAL, [f"[{low}, {high}]" if low else "" for low, high in ends]))
    if all(cell.published is None for cell in row.cells):
        return lines
    printed = [UNKNOWN if c.published is None else format_value(c.published, u) for c, u in pairs]
    differences = [UNKNOWN if c.difference is None else format_difference(c.difference, u) for c, u in pairs]
    return [*lines, (PAPER, printed), (DIFFERENCE, differences)]


def _ends(cell: TableCell, unit: Unit) -> tuple[str, str]:
    """The ends of the interval, without the zeros before the point; empty where there is none."""
    if cell.low is None or cell.high is None:
        return "", ""
    low, high = (format_value(end, unit).removeprefix("0") for end in (cell.low, cell.high))
    return low, high


def _marked(cell: TableCell, unit: Unit, best: str, second: str, plus_minus: str, star: str) -> str:
    """The value with its marks: `best` and `second` are templates around the number."""
    if cell.value is None:
        return UNKNOWN
    text = format_value(cell.value, unit)
    text = best.format(text) if cell.best else second.format(text) if cell.second else text
    spread = "" if cell.std is None else plus_minus + format_value(cell.std, unit)
    return text + spread + (star if cell.significant else "")


def _rich_cell(cell: TableCell, unit: Unit) -> Text:
    if cell.value is None:
        return Text(UNKNOWN)
    style = "bold" if cell.best else "underline" if cell.second else ""
    text = Text().append(format_value(cell.value, unit), style)
    if cell.std is not None:
        text.append("±" + format_value(cell.std, unit).removeprefix("0"), "dim")
    return text.append("*" if cell.significant else "")


def _latex_cell(cell: TableCell, unit: Unit) -> str:
    best, second, plus_minus = r"\textbf{{{}}}", r"\underline{{{}}}", r"{\scriptsize$\,\pm\,$"
    text = _marked(cell, unit, best, second, plus_minus, "")
    text += ("}" if cell.std is not None else "") + ("$^{*}$" if cell.significant else "")
    return _latex_number(text)


def _latex_number(text: str) -> str:
    """A printed value with a true minus sign and an escaped per cent sign."""
    text = "$-$" + text[1:] if text.startswith("-") else text
    return text.replace("%", r"\%").replace(UNKNOWN, "--")


_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "{": r"\{",
        "}": r"\}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": "$<$",
        ">": "$>$",
        "*": "$^{*}$",
        "±": r"$\pm$",
        "→": r"$\rightarrow$",
        "–": "--",
    }
)


def _latex(text: str) -> str:
    return text.translate(_LATEX)


def _html_cell(cell: TableCell, unit: Unit) -> str:
    if cell.value is None:
        return f"<td>{UNKNOWN}</td>"
    text = format_value(cell.value, unit)
    text = f"<strong>{text}</strong>" if cell.best else f"<u>{text}</u>" if cell.second else text
    spread = "" if cell.std is None else f'<span class="std"> ± {format_value(cell.std, unit)}</span>'
    title = "" if cell.p_value is None else f' title="p = {cell.p_value:.2g}"'
    return f"<td{title}>{text}{spread}<sup>{'*' if cell.significant else ''}</sup></td>"


_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --dim: #667080; --rule: #c8ced6; --paper: #ffffff; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e7eb; --dim: #98a2b0; --rule: #3a424d; --paper: #15181c; }
}
body { background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; margin: 2rem; }
figure { margin: 0 0 2rem; overflow-x: auto; }
figcaption { font-weight: 600; margin-bottom: .5rem; }
table { border-collapse: collapse; border-top: 2px solid var(--ink); border-bottom: 2px solid var(--ink); }
th, td { padding: .25rem .75rem; white-space: nowrap; }
thead th { border-bottom: 1px solid var(--ink); text-align: right; }
th:first-child { text-align: left; font-weight: 500; }
td { text-align: right; font-variant-numeric: tabular-nums; }
td sup { display: inline-block; width: .6em; line-height: 0; }
.std, .paper th, .paper td { color: var(--dim); font-size: .87em; }
.section th, .section th:first-child { border-top: 1px solid var(--rule); font-style: italic; }
.paper th:first-child { padding-left: 1.75rem; font-weight: 400; }
.apart th, .apart td { border-top: 1px solid var(--rule); }
ul { color: var(--dim); font-size: .87em; padding-left: 1.1rem; max-width: 60rem; }
"""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""
