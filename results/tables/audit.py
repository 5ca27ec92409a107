"""The audit as a table: methods in rows, conventions in columns; the values, and by how much they differ from ours."""

import math
from collections.abc import Sequence
from dataclasses import replace

from results.statistics.audit import Audit
from results.store.selection import dataset_label
from results.tables.content import Table, TableCell, TableColumn, TableRow, Unit
from results.tables.lines import judged


def audit_table(audit: Audit) -> Table:
    """Values, inflation in per cent, and at the end how far each convention's order of methods agrees with ours."""
    name, first = f"{audit.metric}@{audit.k}", audit.rows[0]
    labels = [row.label for row in audit.rows]
    rows = [_row(label, values, name) for label, values in zip(labels, audit.values_MC.tolist(), strict=True)]
    inflation = zip(labels, audit.inflation_MC[:, 1:].tolist(), strict=True)
    rows += [_row(label, [math.nan, *values], "Against ours, %", Unit.SHIFT) for label, values in inflation]
    order = "Order"
    rows.append(_row("Pairs swapped", audit.swapped, order, Unit.COUNT))
    rows.append(_row("Kendall's tau", audit.tau, order, Unit.MEAN))
    return Table(
        caption=f"{name} by the rules of others on {dataset_label(first.record)}",
        corner="Method",
        columns=tuple(TableColumn(convention.name) for convention in audit.conventions),
        rows=tuple(rows),
        notes=(*judged(first), *audit.notes),
    )


def column_parts(table: Table, most: int) -> list[Table]:
    """The table in parts of at most `most` columns, each with the first column; the notes stand below the last."""
    columns = range(1, len(table.columns))
    groups = [(0, *columns[start : start + most - 1]) for start in range(0, len(columns), most - 1)] or [(0,)]
    parts = []
    for group in groups:
        rows = tuple(replace(row, cells=tuple(row.cells[place] for place in group)) for row in table.rows)
        shown = tuple(table.columns[place] for place in group)
        parts.append(replace(table, columns=shown, rows=rows, notes=table.notes if group == groups[-1] else ()))
    return parts


def _row(label: str, values: Sequence[float], section: str, unit: Unit | None = None) -> TableRow:
    cells = tuple(TableCell(value=None if math.isnan(value) else float(value)) for value in values)
    return TableRow(label, cells, unit, section=section)
