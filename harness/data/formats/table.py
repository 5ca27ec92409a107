"""Generic tables: csv (or another delimiter) and parquet, whose columns the user names."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from harness.data.formats.delimited import Table, checked_names, first_line, read_table
from harness.data.formats.format import Columns, Format, Head
from harness.data.formats.recbole import header_names
from harness.errors import DataError


def separator(line: str) -> str:
    """The delimiter that the line has most of."""
    return max(",\t;|", key=line.count)


def is_delimited(head: Head) -> bool:
    """Whether the first line has a delimiter, and is neither JSON nor a header of RecBole's."""
    return separator(head.first) in head.first and not head.first.startswith("{") and not header_names(head)


def read_delimited(paths: tuple[Path, ...], columns: Columns) -> pl.DataFrame:
    """The named columns of a text table, the file's first line being its header."""
    (path,) = paths
    line = first_line(path)
    header = next(csv.reader([line], delimiter=separator(line)))
    user, item = named_columns(path, header, columns)[:2]
    return read_table(Table(path, separator(line), tuple(header), True, user, item, columns.time, pl.String))


def read_parquet(paths: tuple[Path, ...], columns: Columns) -> pl.DataFrame:
    """The named columns of a parquet file; dates become microseconds, days or what else the file counts in."""
    (path,) = paths
    try:
        wanted = named_columns(path, list(pl.read_parquet_schema(path)), columns)
        frame = pl.read_parquet(path, columns=list(dict.fromkeys(wanted)))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{path}: not a readable parquet file ({str(error).splitlines()[0]})") from None
    keys = [pl.col(name).cast(pl.String).cast(pl.Categorical) for name in wanted[:2]]
    if columns.time is None:
        return frame.select(keys[0].alias("user"), keys[1].alias("item"))
    kind = frame[columns.time].dtype
    if not (kind.is_numeric() or kind.is_temporal()):
        raise DataError(f"{path}: column '{columns.time}' must hold numbers or dates, but holds {kind}")
    is_decimal = kind.is_float() or kind.is_decimal()
    time = pl.col(columns.time).to_physical().cast(pl.Float64 if is_decimal else pl.Int64)
    return frame.select(keys[0].alias("user"), keys[1].alias("item"), time.alias("time"))


def named_columns(path: Path, header: Sequence[str], columns: Columns) -> tuple[str, ...]:
    """The names of the columns of users, items and, where it is named, times; `DataError` for one that is not there."""
    if not columns.user or not columns.item:
        raise DataError(
            f"{path}: the format is not one that names its columns; name them with --user-col and --item-col "
            f"(and --time-col), out of: {', '.join(header)}"
        )
    names = (columns.user, columns.item, *([columns.time] if columns.time else []))
    checked_names(path, header, names)
    return names


CSV = Format("csv", is_delimited, read_delimited, is_text_table=True)
PARQUET = Format("parquet", lambda head: head.magic == b"PAR1", read_parquet)
