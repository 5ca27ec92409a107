"""A `Table` as HTML: a page of its own, or a part of one."""

import html

from results.tables.content import Table, TableCell, Unit, format_value
from results.tables.marks import UNKNOWN, groups_of, lines_below, notes_of, units_of, with_sections


def to_html(table: Table) -> str:
    """A self-contained page, light or dark as the reader's system asks."""
    return _PAGE.format(title=html.escape(table.caption), style=_STYLE, body=html_fragment(table))


def html_fragment(table: Table) -> str:
    """A <figure> with the table and its notes, to be put into a page that has a style of its own."""
    body = []
    for row, opened in with_sections(table):
        if opened:
            span = 1 + len(table.columns)
            body.append(f'<tr class="section"><th colspan="{span}" scope="rowgroup">{html.escape(opened)}</th></tr>')
        units = units_of(table, row)
        apart = ' class="apart"' if row.apart else ""
        cells = "".join(_html_cell(cell, unit) for cell, unit in zip(row.cells, units, strict=True))
        body.append(f'<tr{apart}><th scope="row">{html.escape(row.label)}</th>{cells}</tr>')
        for label, texts in lines_below(row, units):
            cells = "".join(f"<td>{html.escape(text)}</td>" for text in texts)
            body.append(f'<tr class="paper"><th scope="row">{html.escape(label)}</th>{cells}</tr>')
    heading = "".join(f'<th scope="col">{html.escape(column.name)}</th>' for column in table.columns)
    groups = "".join(
        f'<th class="group" colspan="{count}" scope="colgroup">{html.escape(group)}</th>'
        for group, count in groups_of(table)
    )
    above = f"<tr><td></td>{groups}</tr>\n" if groups else ""
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in notes_of(table))
    rows = "\n".join(body)
    return (
        f"<figure>\n<figcaption>{html.escape(table.caption)}</figcaption>\n<table>\n"
        f'<thead>{above}<tr><th scope="col">{html.escape(table.corner)}</th>{heading}</tr></thead>\n'
        f"<tbody>\n{rows}\n</tbody>\n</table>\n<ul>{notes}</ul>\n</figure>"
    )


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
thead .group { text-align: center; }
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
