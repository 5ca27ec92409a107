"""Generic tables: csv (or another delimiter) and parquet, whose columns are recognised or named by the user."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from harness.data.files import excerpt
from harness.data.formats.columns import chosen_columns
from harness.data.formats.delimited import Table, first_line, kind_of_time, parsed_times, read_table
from harness.data.formats.format import Columns, Format, Head
from harness.data.formats.items import item_features, item_texts
from harness.data.formats.recbole import header_names
from harness.errors import DataError


def separator(line: str) -> str:
    """The delimiter that the line has most of."""
    return max(",\t;|", key=line.count)


def is_delimited(head: Head) -> bool:
    """Whether the first line has a delimiter, and is neither JSON nor a header of RecBole's."""
    return separator(head.first) in head.first and not head.first.startswith(("{", "[")) and not header_names(head)


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
    frame = frame.with_columns(_keys(path, named[role], frame[role]) for role in ("user", "item"))
    if columns.time is None:
        return frame
    return frame.with_columns(_times(path, columns.time, frame["time"]))


def _keys(path: Path, column: str, keys: pl.Series) -> pl.Series:
    """Users or items as texts, null where they are missing (NaN, empty); `DataError` for what is no single value."""
    if keys.dtype.is_nested():
        raise DataError(f"{path}: column '{column}' must hold a number or a text a row, but holds {keys.dtype}")
    keys = keys.fill_nan(None) if keys.dtype.is_float() else keys
    try:
        texts = keys.cast(pl.String)
    except pl.exceptions.PolarsError:
        raise DataError(
            f"{path}: column '{column}' must hold texts, but holds {keys.dtype} that is no UTF-8; write it as texts"
        ) from None
    return texts.set(texts == "", None).cast(pl.Categorical)


def _times(path: Path, column: str, times: pl.Series) -> pl.Series:
    """Int64 or Float64 numbers; `DataError` for a column of neither numbers nor dates."""
    if times.dtype == pl.String:
        parsed = parsed_times(times)
        if parsed is None:
            raise DataError(f"{path}: {_odd_time(column, times.to_list())}; mend or remove the row")
        return parsed.alias("time")
    if not (times.dtype.is_numeric() or times.dtype.is_temporal()) or times.dtype == pl.Time:
        raise DataError(f"{path}: column '{column}' must hold numbers or dates, but holds {times.dtype}")
    if times.dtype == pl.Date:
        times = times.cast(pl.Datetime("us"))
    is_whole = not (times.dtype.is_float() or times.dtype.is_decimal())
    numbers = times.to_physical().cast(pl.Int64, strict=False) if is_whole else times.cast(pl.Float64)
    # Whole numbers beyond 64 bits are told as decimal ones that are too large.
    return times.cast(pl.Float64) if numbers.null_count() > times.null_count() else numbers


def _odd_time(column: str, times: Sequence[str | None]) -> str:
    """What is wrong with the first time that is neither a number nor a date, or not what the first one is."""
    kinds = [(row, time, kind_of_time(time)) for row, time in enumerate(times, start=1) if time is not None]
    _, first, wanted = kinds[0]
    for row, time, kind in kinds:
        if kind is None or kind != wanted:
            known = "" if kind is None else f" beside {excerpt(first)}"
            return (
                f"row {row}: the time must be a number or an ISO 8601 date, all of one kind, but column '{column}' "
                f"holds {excerpt(time)}{known}"
            )
    return f"column '{column}' must hold numbers or ISO 8601 dates of one pattern, but the patterns differ"


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
