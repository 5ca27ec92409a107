"""`harness compare --splits`: how the order of methods moves between splits of one data set."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.tables import print_table
from harness.errors import UsageError

if TYPE_CHECKING:
    from results.store.selection import Filters


def show_splits(
    runs_dir: Path,
    dataset: str | None,
    filters: Filters,
    columns: Sequence[tuple[str, int]],
    format: str | None,
    out: Path | None,
    figure: Path | None,
) -> None:
    """Prints the table of one metric, and draws the figure into a folder if one is given."""
    from results.figures.splits import splits_figure
    from results.statistics.splits import split_orders
    from results.tables.splits import splits_table

    if len(columns) > 1:
        told = ", ".join(f"{metric}@{k}" for metric, k in columns)
        raise UsageError(f"--splits shows the order by one metric, but got {told}; keep one of them")
    found = split_orders(runs_dir, dataset, filters, *columns[0])
    print_table(splits_table(found), format, out)
    if figure is not None:
        for path in splits_figure(found).save(figure):
            print(f"wrote {path}", file=sys.stderr)
