"""What the runs reached: leaderboard, ablations, slices, and the paper's numbers beside ours. None: nothing to say."""

from __future__ import annotations

from collections.abc import Sequence

from results.report.blocks import (
    Block,
    DataCell,
    DataColumn,
    DataRow,
    DataTable,
    Prose,
    as_csv,
)
from results.report.material import Board, Material
from results.report.page import Section
from results.report.pictures import picture_of
from results.tables.content import DECIMALS, Table, TableCell, TableRow, Unit, format_difference, format_value
from results.tables.marks import DIFFERENCE, PAPER, UNKNOWN
from results.tables.render import to_csv

# METHODS F.
UNKNOWN_OF_THE_PAPER = (
    "Not known of the paper's numbers: of how many seeds they are means, and how its t-test was paired."
)
# METHODS E.4: what others found with the authors' code.
REPRODUCTIONS = {
    "Scientific": "Independent reproductions with the released code report Recall@10 from 0.0433 to 0.0440 and NDCG@10 "
    "from 0.0229 to 0.0232 on Scientific, below the paper's own 0.0455 and 0.0241."
}


def leaderboard_section(material: Material) -> Section | None:
    """The overall table with intervals."""
    if material.overall is None:
        return None
    table = board_table(material.overall, "leaderboard", material.overall.table)
    return Section("Leaderboard", (table,))


def ablation_section(material: Material) -> Section | None:
    """The ablation tables with intervals, and each variant's difference from the full method."""
    blocks: list[Block] = []
    for board in material.ablations:
        method = next(iter(board.groups.values())).record.method
        blocks.append(board_table(board, f"ablation-{method}", board.table))
        blocks += _delta_tables(board, f"ablation-deltas-{method}")
        blocks += [picture_of(figure, f"{figure.name}-{method}") for figure in board.figures]
    return Section("Ablations", tuple(blocks)) if blocks else None


def slices_section(material: Material) -> Section | None:
    """The overall table for parts of the users; None where runs kept nothing to cut them by."""
    told = () if material.overall is None else material.overall.table.notes
    blocks: list[Block] = [
        _slices_table(table, f"slices-{place}", told) for place, table in enumerate(material.slices, 1)
    ]
    blocks += map(picture_of, material.unseen_users)
    return Section("Slices of the users", tuple(blocks)) if blocks else None


def published_section(material: Material) -> Section | None:
    """Our numbers beside the paper's, where its data set has a like name."""
    boards = [board for board in (material.overall, *material.ablations) if board and board.against_paper]
    blocks: list[Block] = []
    for board in boards:
        assert board.against_paper is not None
        if any(cell.published is not None for row in board.against_paper.rows for cell in row.cells):
            kind = "overall" if board is material.overall else "ablation"
            blocks.append(_published_table(board.against_paper, kind, material.paper_dataset))
    if blocks:
        blocks.append(Prose(UNKNOWN_OF_THE_PAPER))
    if blocks and material.paper_dataset in REPRODUCTIONS:
        blocks.append(Prose(REPRODUCTIONS[material.paper_dataset]))
    return Section("Published numbers", tuple(blocks)) if blocks else None


def board_table(board: Board, name: str, table: Table) -> DataTable:
    """A leaderboard whose values carry their 95 % bootstrap intervals."""
    rows: list[DataRow] = []
    foot: list[DataRow] = []
    for row in table.rows:
        group = board.groups.get(row.label)
        units = [row.unit or column.unit for column in table.columns]
        made = DataRow(row.label, tuple(map(_board_cell, row.cells, units)))
        (rows if group is not None else foot).append(made)
    legend = ("Bold: best; underlined: second best.",) if any(c.is_best for row in rows for c in row.cells) else ()
    return DataTable(
        name,
        table.caption,
        table.corner,
        tuple(DataColumn(column.name) for column in table.columns),
        tuple(rows),
        tuple(foot),
        (*legend, *table.notes),
        csv=to_csv(table),
    )


def _board_cell(cell: TableCell, unit: Unit) -> DataCell:
    if cell.value is None:
        return DataCell(UNKNOWN)
    has_interval = cell.low is not None and cell.high is not None
    return DataCell(
        format_value(cell.value, unit),
        cell.value,
        aside=_spread(cell, unit),
        below=f"[{cell.low:.{DECIMALS}f}, {cell.high:.{DECIMALS}f}]" if has_interval else "",
        hint=None if cell.p_value is None else f"p = {cell.p_value:.2g}",
        is_best=cell.best,
        is_second=cell.second,
        is_starred=cell.significant,
    )


def _spread(cell: TableCell, unit: Unit) -> str:
    return "" if cell.std is None else f" ± {format_value(cell.std, unit)}"


def _slices_table(table: Table, name: str, told: Sequence[str]) -> DataTable:
    """A sliced table without the notes `told` before; the slices' headings become a column, to be sorted by."""
    rows = tuple(
        DataRow(
            row.label,
            (
                DataCell(row.section, row.section),
                *map(_board_cell, row.cells, [column.unit for column in table.columns]),
            ),
        )
        for row in table.rows
        if row.unit is None
    )
    columns = (DataColumn("Slice", is_number=False), *[DataColumn(column.name) for column in table.columns])
    marked = any(cell.best for row in table.rows for cell in row.cells)
    legend = ("Bold: best of a slice; underlined: second best.",) if marked else ()
    notes = (*legend, *[note for note in table.notes if note not in told and not note.startswith("Improvement:")])
    return DataTable(name, table.caption, table.corner, columns, rows, notes=notes, csv=to_csv(table))


def _delta_tables(board: Board, name: str) -> list[Block]:
    """Variant minus full by metric; nothing where the full method or every variant is missing."""
    full = [row for row in board.table.rows if _is_full(board, row)]
    variants = [row for row in board.table.rows if row.label in board.groups and not _is_full(board, row)]
    if not full or not variants:
        return []
    rows = tuple(
        DataRow(
            row.label,
            tuple(
                _delta_cell(cell, base, column.unit)
                for cell, base, column in zip(row.cells, full[0].cells, board.table.columns, strict=True)
            ),
        )
        for row in variants
    )
    columns = tuple(DataColumn(column.name) for column in board.table.columns)
    caption = f"What each change adds or costs: variant minus {full[0].label}"
    notes = ("In small print: per cent of the full method's value. *: as in the table above.",)
    return [DataTable(name, caption, board.table.corner, columns, rows, notes=notes)]


def _delta_cell(cell: TableCell, base: TableCell, unit: Unit) -> DataCell:
    if cell.value is None or base.value is None:
        return DataCell(UNKNOWN)
    delta = cell.value - base.value
    below = f"{100 * delta / base.value:+.1f} %" if base.value else ""
    hint = None if cell.p_value is None else f"p = {cell.p_value:.2g}"
    return DataCell(format_difference(delta, unit), delta, below=below, hint=hint, is_starred=cell.significant)


def _is_full(board: Board, row: TableRow) -> bool:
    return row.label in board.groups and board.groups[row.label].record.variant == "full"


def _published_table(table: Table, kind: str, paper_dataset: str | None) -> DataTable:
    number = {"overall": 3, "ablation": 4}[kind]
    rows = []
    for row in table.rows:
        if row.unit is not None or all(cell.published is None for cell in row.cells):
            continue
        units = [column.unit for column in table.columns]
        ours = tuple(
            DataCell(UNKNOWN) if c.value is None else DataCell(format_value(c.value, u), c.value, _spread(c, u))
            for c, u in zip(row.cells, units, strict=True)
        )
        pairs = list(zip(row.cells, units, strict=True))
        printed = tuple(UNKNOWN if c.published is None else format_value(c.published, u) for c, u in pairs)
        differences = tuple(UNKNOWN if c.difference is None else format_difference(c.difference, u) for c, u in pairs)
        rows.append(DataRow(row.label, ours, ((PAPER, printed), (DIFFERENCE, differences))))
    lines = [["row", "column", "ours", "paper", "difference"]]
    for row in table.rows:
        for column, cell in zip(table.columns, row.cells, strict=True):
            if cell.published is not None:
                known = (cell.value, cell.published, cell.difference)
                lines.append([row.label, column.name, *(repr(value) for value in known)])
    return DataTable(
        f"published-{kind}",
        f"{table.caption}, beside the paper's Table {number} on {paper_dataset}",
        table.corner,
        tuple(DataColumn(column.name) for column in table.columns),
        tuple(rows),
        notes=tuple(note for note in table.notes if note.startswith(("Paper:", "Not at the paper's"))),
        csv=as_csv(lines),
    )
