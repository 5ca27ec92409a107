"""The audit as a table: methods in rows, conventions in columns; the values, and by how much they differ from ours."""

import math
from collections.abc import Sequence
from dataclasses import replace

from results.statistics.audit import Audit, Convention
from results.store.contract import contract_digest, told
from results.store.selection import RowRuns, dataset_label
from results.tables.content import Origin, Table, TableCell, TableColumn, TableRow, Unit
from results.tables.lines import judged


def audit_table(audit: Audit) -> Table:
    """Values, inflation in per cent, and at the end how far each convention's order of methods agrees with ours."""
    name, first = f"{audit.metric}@{audit.k}", audit.rows[0]
    rows = [_method_row(row, values, name) for row, values in zip(audit.rows, audit.values_MC.tolist(), strict=True)]
    inflation = zip(audit.rows, audit.inflation_MC[:, 1:].tolist(), strict=True)
    rows += [_method_row(row, [math.nan, *values], "Against ours, %", Unit.SHIFT) for row, values in inflation]
    order = "Order"
    rows.append(TableRow("Methods compared", _cells(audit.compared), Unit.COUNT, section=order))
    rows.append(TableRow("Pairs swapped", _cells(audit.swapped), Unit.COUNT, section=order))
    rows.append(TableRow("Kendall's tau", _cells(audit.tau), Unit.MEAN, section=order))
    return Table(
        caption=f"{name} by the rules of others on {dataset_label(first.record)}",
        corner="Method",
        columns=tuple(TableColumn(rules.name, origin=_origin(first, rules)) for rules in audit.conventions),
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


def _origin(row: RowRuns, convention: Convention) -> Origin:
    """What a column was made from: the data, and the rows' contract as the convention changes it."""
    record, contract = row.record, {**row.record.contract, **convention.rules}
    digest = record.contract_digest if contract == record.contract else contract_digest(contract)
    return Origin(record.dataset, record.dataset_fingerprint, digest, told(contract, record.split))


def _method_row(row: RowRuns, values: Sequence[float], section: str, unit: Unit | None = None) -> TableRow:
    cells = tuple(
        cell if cell.value is None else replace(cell, seeds=len(row.seeds), config=row.record.config_digest)
        for cell in _cells(values)
    )
    return TableRow(row.label, cells, unit, section=section)


def _cells(values: Sequence[float]) -> tuple[TableCell, ...]:
    return tuple(TableCell(value=None if math.isnan(value) else float(value)) for value in values)
