"""What the runs would have been reported as under the rules of others. None where they kept no outcomes."""

from __future__ import annotations

from functools import partial

from results.figures.audit import audit_figure
from results.report.blocks import Block, DataCell, DataColumn, DataRow, DataTable, Prose
from results.report.material import Material
from results.report.page import Section
from results.report.pictures import made, picture_of
from results.statistics.audit import audit
from results.store.runs import OUTCOMES
from results.tables.audit import audit_table
from results.tables.content import Unit, format_value
from results.tables.marks import UNKNOWN
from results.tables.render import to_csv

ABOUT = (
    "Papers count otherwise than this page does. The table gives, from the same runs, what each method would have "
    "reported under the conventions of others, and how far the order of methods would then agree with ours."
)


def audit_section(material: Material) -> Section | None:
    """Table and figure of the audit of the unchanged methods."""
    rows = [group for group in material.groups if group.record.variant == "full"]
    if not rows or not all((run.folder / OUTCOMES).exists() for row in rows for run in row.runs):
        return None
    found = audit(rows)
    table = audit_table(found)
    lines = []
    for row in table.rows:
        units = [row.unit or column.unit for column in table.columns]
        cells = zip(row.cells, units, strict=True)
        shown = [
            DataCell(UNKNOWN) if cell.value is None else DataCell(format_value(cell.value, unit), cell.value)
            for cell, unit in cells
        ]
        label = f"{row.label}, per cent against ours" if row.unit is Unit.SHIFT else row.label
        lines.append(DataRow(label, tuple(shown)))
    columns = tuple(DataColumn(column.name) for column in table.columns)
    head, foot = lines[: len(rows)], lines[len(rows) :]
    blocks: list[Block] = [
        Prose(ABOUT),
        DataTable(
            "audit", table.caption, table.corner, columns, tuple(head), tuple(foot), table.notes, csv=to_csv(table)
        ),
        *map(picture_of, made(partial(audit_figure, found))),
    ]
    return Section("Rules of others", tuple(blocks))
