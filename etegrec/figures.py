"""The figure `alignment`: preferences and semantics of a fitted ETEGRec, as an entry point of `harness.figures`."""

from __future__ import annotations

import polars as pl

from etegrec.alignment import FittedETEGRec, alignment_frame, choose_cases
from harness.data.prepare import load_dataset
from harness.errors import UsageError
from results.figures.alignment import alignment_figure
from results.figures.registry import FigureMaker, FigureRequest
from results.figures.rendering import Figure
from results.store.selection import select_runs


def make(request: FigureRequest) -> list[Figure]:
    """Histories and items of the full method, and of the one without PSA where it has a run (METHODS D.3)."""
    rows = select_runs(request.runs, request.dataset, request.filters, method="etegrec")
    shown = {row.record.variant: row for row in rows.rows if row.record.variant in ("full", "wo-psa")}
    if "full" not in shown:
        raise UsageError(
            f"alignment needs a finished run of etegrec on '{request.dataset}'; make it with: harness run --dataset "
            f"{request.dataset} --methods etegrec --ablation psa"
        )
    data = load_dataset(request.prepared_of(rows.rows[0].runs[0]))
    cases = choose_cases(data)
    frames = [
        alignment_frame(FittedETEGRec.load(row.runs[0].folder, data), cases, data.catalog.keys, row.short_label)
        for row in shown.values()
    ]
    untrained = shown["wo-psa"].short_label if "wo-psa" in shown else None
    return [alignment_figure(pl.concat(frames), rows.dataset_label, untrained, rows.notes)]


MAKER = FigureMaker("alignment", "a run of etegrec, and its prepared data", make)
