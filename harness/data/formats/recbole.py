"""RecBole's atomic files: tab-separated `.inter` with a header of `name:type`, item texts in `.item`."""

import re
from functools import partial
from pathlib import Path

import polars as pl

from harness.data.formats.columns import arranged, common_column
from harness.data.formats.delimited import Table, first_line, read_table
from harness.data.formats.format import ChosenColumns, Columns, Format, Head, beside
from harness.data.text.metadata import recbole_texts


def header_names(head: Head) -> set[str]:
    """The columns' names; none where the first line is not such a header."""
    fields = head.first.split("\t")
    is_header = all(re.fullmatch(r"[^:\s]+:(token|float)(_seq)?", field) for field in fields)
    return {field.partition(":")[0] for field in fields} if is_header else set()


def recognises(head: Head) -> bool:
    """Whether the header names users."""
    return "user_id" in header_names(head)


def is_metadata(head: Head) -> bool:
    """Whether the header names items alone."""
    return "item_id" in (names := header_names(head)) and "user_id" not in names


def columns_of(path: Path, asked: Columns) -> ChosenColumns:
    """The columns that are read: the format names those of users and items."""
    names = [field.partition(":")[0] for field in first_line(path).split("\t")]
    time = common_column(names, "time")
    return arranged(path, names, Columns("user_id", "item_id", time), is_fixed=time == "timestamp")


def read(paths: tuple[Path, ...], columns: Columns) -> pl.DataFrame:
    """The interactions of the `.inter` file; without a column of times a user's rows are in order."""
    (path,) = paths
    fields = [field.partition(":") for field in first_line(path).split("\t")]
    names, kinds = tuple(field[0] for field in fields), {field[0]: field[2] for field in fields}
    time_type = pl.Float64 if columns.time and kinds[columns.time] == "float" else pl.String
    return read_table(Table(path, "\t", names, True, "user_id", "item_id", columns.time, time_type, quote=None))


FORMAT = Format(
    "recbole",
    recognises,
    read,
    metadata=partial(beside, is_metadata=is_metadata),
    texts=recbole_texts,
    columns=columns_of,
    is_text_table=True,
)
