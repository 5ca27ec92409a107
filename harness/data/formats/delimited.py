"""Shared reading of delimited text tables: one vectorised pass, and a slow one to find the row that broke a rule."""

from __future__ import annotations

import csv
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import polars as pl

from harness.data.files import excerpt, readable
from harness.data.times import LIMIT
from harness.errors import DataError


@dataclass(frozen=True)
class Table:
    """How a delimited text file is to be read."""

    path: Path
    separator: str
    names: tuple[str, ...]  # of all columns
    header: bool
    user: str
    item: str
    time: str | None  # None: a user's rows are in order
    time_type: type[pl.DataType] = pl.Int64  # String: numbers or dates, as the column has them
    quote: str | None = '"'
    history: str | None = None  # the column of the items that precede the row's; read as it is, "" where it is empty
    checked: tuple[str, ...] | None = None  # columns that may not be empty; None: all


def read_table(table: Table) -> pl.DataFrame:
    """Users, items and times (none without a column of times); `DataError` for the first row that breaks a rule."""
    types: dict[str, type[pl.DataType]] = dict.fromkeys(table.names, pl.String)
    if table.time:
        types[table.time] = table.time_type
    try:
        frame = (
            pl.scan_csv(
                table.path,
                separator=table.separator,
                has_header=False,
                skip_rows=int(table.header),
                schema=types,
                quote_char=table.quote,
            )
            .select(
                pl.col(table.user).cast(pl.Categorical).alias("user"),
                pl.col(table.item).cast(pl.Categorical).alias("item"),
                *([pl.col(table.time).alias("time")] if table.time else []),
                *([pl.col(table.history).fill_null("").alias("history")] if table.history else []),
                # Polars checks the number of fields only when it reads all columns.
                pl.any_horizontal(pl.col(name).is_null() for name in table.names).alias("any"),
                pl.any_horizontal(pl.col(name).is_null() for name in table.checked or table.names).alias("incomplete"),
            )
            .collect()
        )
    except (pl.exceptions.PolarsError, OSError) as error:
        _raise_first_bad_row(table)
        raise DataError(f"{table.path}: {str(error).splitlines()[0]}") from None
    if frame["incomplete"].any():  # by too few fields, or by empty ones, which only some columns may have
        _raise_first_bad_row(table)
    frame = frame.drop("any", "incomplete")
    if table.time and frame["time"].dtype == pl.String:
        frame = frame.with_columns(_parsed_column(table, frame["time"]))
    if table.time and frame["time"].dtype == pl.Float64 and not (frame["time"].abs() < LIMIT).all():
        _raise_first_bad_row(table)
    return frame


def parsed_times(texts: pl.Series) -> pl.Series | None:
    """Whole numbers, else decimal numbers, else ISO 8601 dates (as microseconds since 1970); None for anything else."""
    for kind in (pl.Int64, pl.Float64):
        times = texts.cast(kind, strict=False)
        if times.null_count() == texts.null_count():
            return times
    for parse in (lambda: texts.str.to_datetime(strict=False, time_unit="us"), lambda: texts.str.to_date(strict=False)):
        try:
            times = parse()
        except pl.exceptions.ComputeError:  # polars could not guess the pattern from the first rows
            continue
        if times.null_count() == texts.null_count():
            return times.cast(pl.Datetime("us")).to_physical().alias("time")
    return None


def _parsed_column(table: Table, texts: pl.Series) -> pl.Series:
    """The times of a text table's column; `DataError` for the first row that is none."""
    times = parsed_times(texts)
    if times is None or times.null_count():
        _raise_first_bad_row(table)
        raise DataError(
            f"{table.path}: column '{table.time}' must hold numbers or dates of one pattern, but the patterns differ"
        )
    return times


def _raise_first_bad_row(table: Table) -> None:
    """Raise for the first row that breaks a rule; the slow pass, taken only after the fast one failed."""
    time_place = table.names.index(table.time) if table.time else None
    places = {"user": table.names.index(table.user), "item": table.names.index(table.item)}
    first: tuple[str | None, str] | None = None  # kind of the first row's time, and what to say of it
    with readable(table.path) as stream:
        rows = csv.reader(
            stream, delimiter=table.separator, quoting=csv.QUOTE_MINIMAL if table.quote else csv.QUOTE_NONE
        )
        for row in rows:
            at = f"{table.path}:{rows.line_num}"
            if table.header and rows.line_num == 1:
                continue
            if not row:
                raise DataError(f"{at}: the line is empty; remove it")
            if len(row) != len(table.names):
                raise DataError(
                    f"{at}: each row must have {len(table.names)} fields ({table.separator.join(table.names)}), "
                    f"but has {len(row)}: {excerpt(table.separator.join(row))}; mend or remove the row"
                )
            for role, place in places.items():
                if not row[place]:
                    raise DataError(f"{at}: the {role} must not be empty; mend or remove the row")
            if time_place is None:
                continue
            kind, time = kind_of_time(row[time_place], table.time_type), excerpt(row[time_place])
            first = first or (kind, f"line {rows.line_num} has {time}")
            if kind is None:
                raise DataError(
                    f"{at}: {_TIME_RULES[table.time_type]}, but got {time} in column '{table.time}'; mend or remove "
                    "the row"
                )
            if kind != first[0]:
                raise DataError(
                    f"{at}: the times must be all numbers or all dates, but {first[1]} and this one {time} in column "
                    f"'{table.time}'; write them in one way"
                )


_TIME_RULES = {
    pl.Int64: "the timestamp must be a whole number (milliseconds)",
    pl.Float64: "the timestamp must be a finite number of at most 64 bits",
    pl.String: "the time must be a number or an ISO 8601 date",
}


def kind_of_time(text: str, kind: type[pl.DataType] = pl.String) -> str | None:
    """`number` or `date`; None for what is no time in a column of this kind."""
    if kind == pl.Int64:
        return "number" if re.fullmatch(r"[+-]?[0-9]{1,18}", text) else None
    if re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", text):
        return "number" if abs(float(text)) < LIMIT else None
    if kind != pl.String or not re.fullmatch(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}.*)?", text):
        return None
    try:
        date.fromisoformat(text[:10])
    except ValueError:  # a thirteenth month, say
        return None
    return "date"


def first_line(path: Path) -> str:
    """The file's first line; `DataError` where there is none."""
    with readable(path) as stream:
        line = stream.readline().rstrip("\n")
        if stream.newlines == "\r":
            raise DataError(
                f"{path}: lines must end in a line feed, but end in a carriage return, as on old Macs; convert it: "
                f"tr '\\r' '\\n' < {shlex.quote(str(path))} > NEW"
            )
    if not line:
        raise DataError(f"{path}: the file is empty, or its first line is")
    return line


def checked_names(path: Path, names: Sequence[str], needed: Sequence[str]) -> tuple[str, ...]:
    """The columns' names; `DataError` where one stands twice or a needed one is missing."""
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise DataError(f"{path}:1: each column must be named once, but '{repeated[0]}' is named twice")
    missing = [name for name in needed if name not in names]
    if missing:
        raise DataError(f"{path}:1: no column '{missing[0]}'; the columns are: {', '.join(names)}")
    return tuple(names)
