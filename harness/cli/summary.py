"""What `harness run` prints at its end: the leaderboards from the store, and the cells that failed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from rich.console import Console

from harness.cli.options import print_json
from harness.data.dataset import Dataset
from harness.experiment.place import Place
from harness.experiment.plan import Cell
from harness.experiment.run import CellResult
from results.errors import ResultsError
from results.store.selection import Filters
from results.tables.console import RichTable
from results.tables.content import Table
from results.tables.joined import side_by_side
from results.tables.performance import PAPER_COLUMNS, View, ablation_table, overall_table
from results.tables.render import render


class Done(NamedTuple):
    """What was run on a data set."""

    dataset: Dataset
    results: Sequence[CellResult]
    place: Place

    @property
    def failed(self) -> list[CellResult]:
        """The cells that are not done."""
        return [result for result in self.results if result.outcome.status != "done"]


def show(done: Sequence[Done], *, as_json: bool) -> int:
    """Prints tables and failures; the exit code: 1 if a cell failed, or a table cannot be made.

    Several data sets stand side by side.
    """
    made = [_tables(*one) for one in done]
    reasons = [reason for _, told in made for reason in told]
    tables, not_joined = _joined([tables for tables, _ in made])
    reasons += not_joined
    if as_json:
        single = [_content(one, tables) for one, (tables, _) in zip(done, made, strict=True)]
        print_json(single[0] if len(single) == 1 else {"datasets": single, "tables": _as_json(tables)})
    else:
        console = Console()
        for table in tables.values():
            console.print()
            console.print(RichTable(table))
    for reason in reasons:
        print(reason, file=sys.stderr)
    failed = [(f"{one.dataset.name}, " if len(done) > 1 else "", result) for one in done for result in one.failed]
    tell_failed(failed, sum(len(one.results) for one in done))
    return int(bool(failed or reasons))


def tell_failed(failed: Sequence[tuple[str, CellResult]], num_cells: int) -> None:
    """The failed cells of so many, by their causes, on stderr; each with what stands before its label."""
    if not failed:
        return
    print(f"\n{len(failed)} of {num_cells} cells failed:", file=sys.stderr)
    for error, labels in _by_error(failed).items():
        print(f"  {'; '.join(labels)}: {error}", file=sys.stderr)
    print("everything computed stays; give the same command again to go on", file=sys.stderr)


def _content(done: Done, tables: dict[str, Table]) -> dict[str, Any]:
    return {
        "dataset": done.dataset.name,
        "fingerprint": done.dataset.fingerprint,
        "cells": [_cell(result) for result in done.results],
        "tables": _as_json(tables),
    }


def _as_json(tables: dict[str, Table]) -> dict[str, Any]:
    return {name: json.loads(render(table, "json")) for name, table in tables.items()}


def _joined(made: Sequence[dict[str, Table]]) -> tuple[dict[str, Table], list[str]]:
    """The tables of each name side by side, and why some cannot stand so."""
    joined, reasons = {}, []
    for name in dict.fromkeys(name for tables in made for name in tables):
        try:
            joined[name] = side_by_side([tables[name] for tables in made if name in tables])
        except ResultsError as error:
            reasons.append(f"no {name} table: {error}")
    return joined, reasons


def tell_left_out(left_out: Mapping[str, Sequence[str]]) -> None:
    """One line on stderr for each cause, with the methods that are left out for it."""
    for cause, names in left_out.items():
        print(f"left out: {', '.join(names)}: {cause}", file=sys.stderr)


def _by_error(failed: Sequence[tuple[str, CellResult]]) -> dict[str, list[str]]:
    """Labels of the cells by what they failed with."""
    found: dict[str, list[str]] = {}
    for where, result in failed:
        found.setdefault(result.outcome.error, []).append(where + result.cell.label)
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
