"""What `harness run` prints at its end: the leaderboards from the store, and the cells that failed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from rich.console import Console

from harness.cli.options import print_json
from harness.data.dataset import Dataset
from harness.experiment.place import Place
from harness.experiment.plan import Cell
from harness.experiment.run import CellResult
from results.errors import ResultsError
from results.store.selection import Filters
from results.tables.content import Table
from results.tables.performance import PAPER_COLUMNS, View, ablation_table, overall_table
from results.tables.render import render, to_rich


def show(dataset: Dataset, results: Sequence[CellResult], place: Place, *, as_json: bool) -> int:
    """Prints tables and failures; the exit code: 1 if a cell failed, or a table cannot be made."""
    failed = [result for result in results if result.outcome.status != "done"]
    tables, reasons = _tables(dataset, results, place)
    if as_json:
        print_json(
            {
                "dataset": dataset.name,
                "fingerprint": dataset.fingerprint,
                "cells": [_cell(result) for result in results],
                "tables": {name: json.loads(render(table, "json")) for name, table in tables.items()},
            }
        )
    else:
        console = Console()
        for table in tables.values():
            console.print()
            console.print(to_rich(table))
    for reason in reasons:
        print(reason, file=sys.stderr)
    if failed:
        print(f"\n{len(failed)} of {len(results)} cells failed:", file=sys.stderr)
        for error, labels in _by_error(failed).items():
            print(f"  {'; '.join(labels)}: {error}", file=sys.stderr)
        print("everything computed stays; give the same command again to go on", file=sys.stderr)
    return int(bool(failed or reasons))


def tell_left_out(left_out: Mapping[str, Sequence[str]]) -> None:
    """One line on stderr for each cause, with the methods that are left out for it."""
    for cause, names in left_out.items():
        print(f"left out: {', '.join(names)}: {cause}", file=sys.stderr)


def _by_error(failed: Sequence[CellResult]) -> dict[str, list[str]]:
    """Labels of the cells by what they failed with."""
    found: dict[str, list[str]] = {}
    for result in failed:
        found.setdefault(result.outcome.error, []).append(result.cell.label)
    return found


def _tables(dataset: Dataset, results: Sequence[CellResult], place: Place) -> tuple[dict[str, Table], list[str]]:
    """The tables of this run's data, configs and contract, as far as cells are done, and why others cannot be made."""
    done = [result.cell for result in results if result.outcome.status == "done"]
    ablated = list(dict.fromkeys(result.cell.method for result in results if result.cell.ablation.variant != "full"))
    makers: dict[str, tuple[Callable[..., Table], list[Cell]]] = {
        "overall": (overall_table, [cell for cell in done if cell.ablation.variant == "full"])
    }
    for method in ablated:
        name = "ablation" if len(ablated) == 1 else f"ablation of {method}"
        makers[name] = (partial(ablation_table, method=method), [cell for cell in done if cell.method == method])
    tables, reasons = {}, []
    for name, (make, shown) in makers.items():
        if shown:
            filters = Filters(
                configs=tuple(dict.fromkeys(cell.config_digest for cell in shown)),
                contract=shown[0].settings.contract.digest(),
            )
            # Lists that are shorter than the paper's k give a table at their own length.
            longest = shown[0].settings.contract.top_k
            columns = dict.fromkeys((metric, min(k, longest)) for metric, k in PAPER_COLUMNS)
            view, where = View(columns=tuple(columns)), f"{dataset.name}-{dataset.fingerprint}"
            try:
                tables[name] = make(place.runs, where, filters=filters, view=view)
            except ResultsError as error:
                reasons.append(f"no {name} table: {error}")
    return tables, reasons


def _cell(result: CellResult) -> dict[str, Any]:
    cell = result.cell
    return {
        "method": cell.method,
        "variant": cell.ablation.variant,
        "seed": cell.seed,
        "config": cell.config_digest,
        "folder": str(result.folder),
        "trials": cell.trials,
        "status": result.outcome.status,
        "error": result.outcome.error,
    }
