"""What `harness run` prints at its end: the leaderboards from the store, and the cells that failed."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from harness.cli.options import print_json
from harness.experiment.place import Place
from harness.experiment.run import CellResult
from results.errors import ResultsError
from results.tables.paper import ablation_table, overall_table
from results.tables.render import render, to_rich
from results.tables.table import Table


def show(dataset: str, results: Sequence[CellResult], place: Place, *, ablation: bool, as_json: bool) -> int:
    """Prints tables and failures; the exit code: 1 if a cell failed."""
    failed = [result for result in results if result.outcome.status != "done"]
    tables = _tables(dataset, results, place, ablation)
    if as_json:
        print_json(
            {
                "dataset": dataset,
                "cells": [_cell(result) for result in results],
                "tables": {name: json.loads(render(table, "json")) for name, table in tables.items()},
            }
        )
    else:
        console = Console()
        for table in tables.values():
            console.print()
            console.print(to_rich(table))
    if failed:
        print(f"\n{len(failed)} of {len(results)} cells failed:", file=sys.stderr)
        for result in failed:
            print(f"  {result.cell.label}: {result.outcome.error}", file=sys.stderr)
        print("everything computed stays; give the same command again to go on", file=sys.stderr)
    return int(bool(failed))


def _tables(dataset: str, results: Sequence[CellResult], place: Place, ablation: bool) -> dict[str, Table]:
    """The tables of this run's configs and contract, as far as their cells are done."""
    done = [result.cell for result in results if result.outcome.status == "done"]
    makers = {"overall": overall_table} | ({"ablation": ablation_table} if ablation else {})
    tables = {}
    for name, make in makers.items():
        shown = [cell for cell in done if _stands_in(name, cell)]
        if shown:
            configs = {cell.config_digest for cell in shown}
            try:
                tables[name] = make(place.runs, dataset, configs=configs, contract=shown[0].settings.contract.digest())
            except ResultsError as error:
                print(f"no {name} table: {error}", file=sys.stderr)
    return tables


def _stands_in(table: str, cell: Any) -> bool:
    from harness.methods import proposed_method

    return cell.ablation.variant == "full" if table == "overall" else cell.method == proposed_method()


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
