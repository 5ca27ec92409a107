"""RecBole's atomic files: tab-separated `.inter` with a header of `name:type`, item texts in `.item`."""

import re
from functools import partial
from pathlib import Path

import polars as pl

from harness.data.formats.delimited import Table, checked_names, first_line, read_table
from harness.data.formats.format import Columns, Format, Head, beside
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


def read(paths: tuple[Path, ...], columns: Columns) -> pl.DataFrame:
    """The interactions of the `.inter` file; without a column `timestamp` a user's rows are in order."""
    (path,) = paths
    fields = first_line(path).split("\t")
    names = checked_names(path, [field.partition(":")[0] for field in fields], ("user_id", "item_id"))
    time = "timestamp" if "timestamp" in names else None
    return read_table(Table(path, "\t", names, True, "user_id", "item_id", time, pl.Float64, quote=None))


FORMAT = Format(
    "recbole",
    recognises,
    read,
    metadata=partial(beside, is_metadata=is_metadata),
    texts=recbole_texts,
    is_text_table=True,
)
