"""Generic tables: csv (or another delimiter) and parquet, whose columns are recognised or named by the user."""

from __future__ import annotations

import csv
from pathlib import Path

import polars as pl

from harness.data.formats.columns import chosen_columns
from harness.data.formats.delimited import Table, first_line, parsed_times, read_table
from harness.data.formats.format import Columns, Format, Head
from harness.data.formats.items import item_features, item_texts
from harness.data.formats.recbole import header_names
from harness.errors import DataError


def separator(line: str) -> str:
    """The delimiter that the line has most of."""
    return max(",\t;|", key=line.count)


def is_delimited(head: Head) -> bool:
    """Whether the first line has a delimiter, and is neither JSON nor a header of RecBole's."""
    return separator(head.first) in head.first and not head.first.startswith("{") and not header_names(head)


def delimited_header(path: Path) -> list[str]:
    """The names in the file's first line."""
    line = first_line(path)
    return [name.strip() for name in next(csv.reader([line], delimiter=separator(line)))]


def parquet_header(path: Path) -> list[str]:
    """The names of the file's columns; `DataError` for what is no parquet file."""
    try:
        return list(pl.read_parquet_schema(path))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{path}: not a readable parquet file ({str(error).splitlines()[0]})") from None


def read_delimited(paths: tuple[Path, ...], columns: Columns) -> pl.DataFrame:
    """The chosen columns of a text table, the file's first line being its header."""
    (path,) = paths
    assert columns.user is not None
    assert columns.item is not None
    names, delimiter = tuple(delimited_header(path)), separator(first_line(path))
    return read_table(Table(path, delimiter, names, True, columns.user, columns.item, columns.time, pl.String))


def read_parquet(paths: tuple[Path, ...], columns: Columns) -> pl.DataFrame:
    """The chosen columns of a parquet file; dates become microseconds, or what else the file counts in."""
    (path,) = paths
    roles = {"user": columns.user, "item": columns.item, "time": columns.time}
    named = {role: name for role, name in roles.items() if name is not None}
    try:
        frame = pl.read_parquet(path, columns=list(named.values()))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{path}: not a readable parquet file ({str(error).splitlines()[0]})") from None
    frame = frame.select(pl.col(name).alias(role) for role, name in named.items())
    frame = frame.with_columns(pl.col("user", "item").cast(pl.String).cast(pl.Categorical))
    if columns.time is None:
        return frame
    return frame.with_columns(_times(path, columns.time, frame["time"]))


def _times(path: Path, column: str, times: pl.Series) -> pl.Series:
    """Int64 or Float64 numbers; `DataError` for a column of neither numbers nor dates."""
    if times.dtype == pl.String:
        parsed = parsed_times(times)
        if parsed is None:
            raise DataError(f"{path}: column '{column}' must hold numbers or ISO 8601 dates of one pattern")
        return parsed.alias("time")
    if not (times.dtype.is_numeric() or times.dtype.is_temporal()):
        raise DataError(f"{path}: column '{column}' must hold numbers or dates, but holds {times.dtype}")
    if times.dtype == pl.Date:
        times = times.cast(pl.Datetime("us"))
    is_decimal = times.dtype.is_float() or times.dtype.is_decimal()
    return times.to_physical().cast(pl.Float64 if is_decimal else pl.Int64)


CSV = Format(
    "csv",
    is_delimited,
    read_delimited,
    texts=item_texts,
    features=item_features,
    columns=lambda path, asked: chosen_columns(path, delimited_header(path), asked),
    is_text_table=True,
)
PARQUET = Format(
    "parquet",
    lambda head: head.magic == b"PAR1",
    read_parquet,
    texts=item_texts,
    features=item_features,
    columns=lambda path, asked: chosen_columns(path, parquet_header(path), asked),
)
