"""Orders of methods under splits as a table: values and places, and how far the orders agree."""

import math
from itertools import combinations

from results.statistics.inference import ALPHA, Interval
from results.statistics.splits import SplitOrders
from results.store.contract import told
from results.tables.content import Origin, Table, TableCell, TableColumn, TableRow, Unit

EMPTY = TableCell(value=None)


def splits_table(found: SplitOrders) -> Table:
    """Methods in rows; of each split the value and the place; then tau and the swapped pairs of each two splits."""
    name = f"{found.metric}@{found.k}"
    columns = []
    for split in found.splits:
        record = split.record
        rules = told(record.contract, record.split)
        origin = Origin(record.dataset, record.dataset_fingerprint, record.contract_digest, rules)
        columns += [TableColumn(name, group=split.name, origin=origin)]
        columns += [TableColumn("Place", Unit.COUNT, group=split.name, origin=origin)]
    rows = [TableRow(label, _cells(found, label)) for label in found.labels]
    splits = range(len(found.splits))
    for first in splits[:-1]:
        taus = [_spaced(_tau_cell(found.tau_PP[first][second]) if second > first else EMPTY) for second in splits]
        rows.append(_row(found.splits[first].name, taus, "Kendall's tau of the orders", Unit.MEAN))
    pairs = len(found.shared) * (len(found.shared) - 1) // 2
    for first in splits[:-1]:
        counts = [_spaced(_count_cell(found, first, second) if second > first else EMPTY) for second in splits]
        rows.append(_row(found.splits[first].name, counts, f"Pairs of methods that swap, of {pairs}", Unit.COUNT))
    return Table(
        caption=f"Order of methods on {found.dataset} under {len(found.splits)} splits",
        corner="Method",
        columns=tuple(columns),
        rows=tuple(rows),
        notes=tuple(_notes(found)),
        subject=found.dataset,
    )


def _cells(found: SplitOrders, label: str) -> tuple[TableCell, ...]:
    cells: list[TableCell] = []
    for place, split in enumerate(found.splits):
        value = found.value(label, split)
        at = found.shared.index(label) if label in found.shared else None
        cells.append(EMPTY if math.isnan(value) else TableCell(value=value))
        cells.append(EMPTY if at is None else TableCell(value=float(found.places_MP[at, place])))
    return tuple(cells)


def _spaced(cell: TableCell) -> tuple[TableCell, TableCell]:
    """Under a split's two columns."""
    return cell, EMPTY


def _row(label: str, cells: list[tuple[TableCell, TableCell]], section: str, unit: Unit) -> TableRow:
    return TableRow(label, tuple(cell for pair in cells for cell in pair), unit, section=section)


def _tau_cell(tau: Interval) -> TableCell:
    if math.isnan(tau.mean):  # all methods tie under a split
        return EMPTY
    return TableCell(value=tau.mean, low=tau.low, high=tau.high)


def _count_cell(found: SplitOrders, first: int, second: int) -> TableCell:
    return TableCell(value=float(len(found.swapped(first, second))))


def _notes(found: SplitOrders) -> list[str]:
    """Who was judged under each split, how to read the numbers, and which swaps are beyond chance."""
    notes = [f"{split.name}: {split.rows[0].population}." for split in found.splits]
    without = [label for label in found.labels if label not in found.shared]
    notes += [f"Not run under every split, and so without a place: {', '.join(without)}."] if without else []
    notes.append(
        "tau: Kendall's tau-b of the methods with a place, 1 where the orders are the same; interval: 95 %, bootstrap "
        "over the users and seeds of each split on its own, as if no user were in both. Few users and close methods "
        "pull it below tau."
    )
    for first, second in combinations(range(len(found.splits)), 2):
        sure = found.told_apart[first] & found.told_apart[second]
        swapped = [f"{a} above {b}" for a, b in found.swapped(first, second) if frozenset((a, b)) in sure]
        names = f"under {found.splits[first].name}, and the other way round under {found.splits[second].name}"
        notes.append(f"Beyond chance among users {names}: {', '.join(swapped) or 'no pair'}.")
    test = "paired two-sided t-test over users, Holm's correction over the pairs of a split"
    notes += [f"Beyond chance: p < {ALPHA} under both splits, {test}.", *found.notes]
    shared = [note for note in found.splits[0].notes if all(note in split.notes for split in found.splits)]
    own = [f"{split.name}: {note}" for split in found.splits for note in split.notes if note not in shared]
    return [*notes, *shared, *own]
