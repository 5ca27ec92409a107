"""Cells of the tables that a report makes itself; an unknown value is a dash."""

from __future__ import annotations

import polars as pl

from results.report.blocks import (
    DataCell,
)
from results.tables.content import DECIMALS
from results.tables.marks import UNKNOWN


def count_cell(value: int | None) -> DataCell:
    """A whole number."""
    return DataCell(UNKNOWN) if value is None else DataCell(f"{value:,}", value)


def metric_cell(value: float | None) -> DataCell:
    """A metric, as tables print it."""
    return DataCell(UNKNOWN) if value is None else DataCell(f"{value:.{DECIMALS}f}", value)


def share_cell(value: float | None) -> DataCell:
    """A share of 1, in per cent."""
    return DataCell(UNKNOWN) if value is None else DataCell(f"{100 * value:.2f} %", value)


def seconds_cell(value: float) -> DataCell:
    """Seconds, to a tenth."""
    return DataCell(f"{value:,.1f}", value)


def num_epochs(history: pl.DataFrame) -> int:
    """Epochs that were trained: those of a stage and phase once each."""
    return history.select("stage", "phase", "epoch").n_unique() if len(history) else 0
