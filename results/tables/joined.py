"""Tables of several data sets in one, their columns side by side, as in the paper's Table 3."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from results.errors import ResultsError
from results.tables.content import Beside, Origin, Table, TableCell, TableRow, Unit

Key = tuple[str, str]  # section, label


def side_by_side(tables: Sequence[Table]) -> Table:
    """One table with a group of columns for each of the given ones, which all show the same of one data set each.

    A row stands where its label does in the tables that have it; elsewhere its cells are unknown. Notes that all share
    are said once, the others with their data set before them. `ResultsError` for tables judged under different rules.
    """
    if len(tables) == 1:
        return tables[0]
    groups = _groups(tables)
    _refuse_other_rules(tables, groups)
    columns = tuple(replace(c, group=g) for table, g in zip(tables, groups, strict=True) for c in table.columns)
    by_key = [{(row.section, row.label): row for row in table.rows} for table in tables]
    order = _merged([list(rows) for rows in by_key])
    rows = [_row(key, [found.get(key) for found in by_key], tables) for key in order]
    rows.sort(key=lambda row: (_section_place(row.section, order), row.unit is Unit.CHANGE))
    first, subject = tables[0], f"{', '.join(groups[:-1])} and {groups[-1]}"
    caption = first.caption.replace(f" on {first.subject}", f" on {subject}", 1)
    return Table(caption, first.corner, columns, tuple(rows), tuple(_notes(tables, groups)), subject)


def _groups(tables: Sequence[Table]) -> list[str]:
    """The tables' data sets as their captions name them, with the fingerprint where two have one name."""
    names = [table.subject for table in tables]
    origins = [_origin(table) for table in tables]
    return [
        f"{name}-{origin.fingerprint[:8]}" if names.count(name) > 1 and origin is not None else name
        for name, origin in zip(names, origins, strict=True)
    ]


def _origin(table: Table) -> Origin | None:
    return next((column.origin for column in table.columns if column.origin is not None), None)


def _refuse_other_rules(tables: Sequence[Table], groups: Sequence[str]) -> None:
    contracts = [origin.contract for table in tables if (origin := _origin(table)) is not None]
    if len(set(contracts)) > 1:
        told = ", ".join(f"{group} {contract}" for group, contract in zip(groups, contracts, strict=True))
        raise ResultsError(
            f"data sets side by side must be judged under one contract, but have {told}; keep one with --contract "
            "DIGEST, or print a table for each"
        )


def _merged(orders: Iterable[Sequence[Key]]) -> list[Key]:
    """All keys, each after those that stand before it in the first order that has it."""
    merged: list[Key] = []
    for order in orders:
        place = 0
        for key in order:
            if key in merged:
                place = merged.index(key) + 1
            else:
                merged.insert(place, key)
                place += 1
    return merged


def _section_place(section: str, order: Sequence[Key]) -> int:
    return next(place for place, (name, _) in enumerate(order) if name == section)


def _row(key: Key, found: Sequence[TableRow | None], tables: Sequence[Table]) -> TableRow:
    """The rows of one label beside each other."""
    cells: list[TableCell] = []
    beside: list[Beside] = []
    total = sum(len(table.columns) for table in tables)
    for row, table in zip(found, tables, strict=True):
        width, start = len(table.columns), len(cells)
        cells += row.cells if row is not None else [TableCell(value=None)] * width
        for other in row.beside if row is not None else ():
            empty: tuple[float | None, ...] = (None,) * total
            beside.append(Beside(other.label, empty[:start] + other.values + empty[start + width :]))
    known = [row for row in found if row is not None]
    apart = all(row.apart for row in known)  # where all tables that have the row set it off
    return TableRow(key[1], tuple(cells), known[0].unit, apart, key[0], beside=tuple(_joined(beside)))


def _joined(lines: Sequence[Beside]) -> list[Beside]:
    """Lines of the same label in one, where their values do not meet."""
    made: dict[str, Beside] = {}
    left: list[Beside] = []
    for line in lines:
        other = made.setdefault(line.label, line)
        if other is line:
            continue
        pairs = list(zip(other.values, line.values, strict=True))
        if any(a is not None and b is not None for a, b in pairs):
            left.append(line)
        else:
            made[line.label] = replace(line, values=tuple(b if a is None else a for a, b in pairs))
    return [*made.values(), *left]


def _notes(tables: Sequence[Table], groups: Sequence[str]) -> list[str]:
    """What all tables say, and then what one of them says, with its data set before it."""
    shared = [note for note in tables[0].notes if all(note in table.notes for table in tables)]
    own = [f"{group}: {note}" for table, group in zip(tables, groups, strict=True) for note in table.notes]
    return shared + [text for text in own if text.partition(": ")[2] not in shared]
