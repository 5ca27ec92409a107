"""Generators on different item codes as a table: metrics by item and by tuple side by side."""

import math
from collections.abc import Sequence

from results.statistics.audit import mean_under
from results.statistics.inference import std_over_seeds
from results.store.selection import RowRuns, check_one_population, dataset_label, disclosures, refuse_mixture
from results.tables.content import Origin, Table, TableCell, TableColumn, TableRow, Unit
from results.tables.lines import MetricColumn, judged

BY_ITEM, BY_TUPLE, CODES = "By item", "By tuple", "Codes"
SHARED = "Shared"


def codes_table(rows: Sequence[tuple[str, RowRuns]], columns: Sequence[MetricColumn]) -> Table:
    """A line for each label and its runs: what of the items share a tuple, and the metrics by both kinds of hit.

    `ResultsError` for runs of other data or another contract, and for runs that kept no outcomes.
    """
    runs = [row for _, row in rows]
    refuse_mixture(runs)
    check_one_population(runs)
    record = runs[0].record
    origin = Origin(record.dataset, record.dataset_fingerprint, record.contract_digest)
    names = [f"{metric}@{k}" for metric, k in columns]
    heads = [TableColumn(SHARED, Unit.PERCENT, CODES, origin)]
    heads += [TableColumn(name, group=group, origin=origin) for group in (BY_ITEM, BY_TUPLE) for name in names]
    most = max(len(row.seeds) for row in runs)
    spread = "Mean ± standard deviation over seeds." if most > 1 else "One seed: training randomness is not measured."
    return Table(
        caption=f"{record.title} on the item codes of files, on {dataset_label(record)}",
        corner="Codes of",
        columns=tuple(heads),
        rows=tuple(TableRow(label, _cells(row, columns)) for label, row in rows),
        notes=(
            spread,
            *judged(runs[0]),
            f"{SHARED}: items whose tuple another item has too.",
            f"{BY_ITEM}: the target itself is the hit; items of one tuple rank by their number.",
            f"{BY_TUPLE}: any item with the target's tuple is a hit, and each tuple takes one rank.",
            *disclosures(runs),
        ),
        subject=dataset_label(record),
    )


def _cells(row: RowRuns, columns: Sequence[MetricColumn]) -> tuple[TableCell, ...]:
    digest = row.record.config_digest
    shared = row.record.health.get("colliding_items")
    cells = [TableCell(value=None if shared is None else 100 * float(shared), config=digest)]
    for metric, k in columns:
        values_SU = row.values(metric, k)
        spread = std_over_seeds(values_SU)
        cells.append(TableCell(value=float(values_SU.mean()), std=spread, seeds=len(values_SU), config=digest))
    for metric, k in columns:
        value = mean_under(row, "codes", metric, k)
        cells.append(TableCell(value=None if math.isnan(value) else value, config=digest))
    return tuple(cells)
