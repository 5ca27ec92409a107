"""Amazon Reviews 2023: csv `user_id,parent_asin,rating,timestamp` (milliseconds; header optional), metadata jsonl."""

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import polars as pl

from harness.data.formats.columns import arranged
from harness.data.formats.delimited import Table, checked_names, first_line, read_table
from harness.data.formats.format import ChosenColumns, Columns, Format, Head, beside
from harness.data.item_features import amazon_features
from harness.data.text.metadata import amazon_texts

COLUMNS = ("user_id", "parent_asin", "rating", "timestamp")


def recognises(head: Head) -> bool:
    """Whether the first line is the header, or a row of a file without one."""
    is_header = {"user_id", "parent_asin", "timestamp"} <= set(head.first.split(","))
    return is_header or re.fullmatch(r"[^,]+,[^,]+,[0-9.]+,[0-9]{9,}", head.first) is not None


def is_metadata(head: Head) -> bool:
    """Whether the file holds items as JSON lines."""
    return head.first.startswith("{") and '"parent_asin"' in head.first


def columns_of(path: Path, asked: Columns) -> ChosenColumns:
    """The columns that are read, whose names are fixed."""
    first = first_line(path).split(",")
    columns = Columns("user_id", "parent_asin", "timestamp")
    return arranged(path, first if has_header(first) else COLUMNS, columns, is_fixed=True)


def has_header(fields: Sequence[str]) -> bool:
    """Whether these are the names of the columns, and not the file's first row."""
    return "user_id" in fields and "parent_asin" in fields


def read(paths: tuple[Path, ...], columns: Columns) -> pl.DataFrame:
    """The interactions of the one file; the columns' names are fixed."""
    (path,) = paths
    first = first_line(path).split(",")
    header = has_header(first)
    names = checked_names(path, first, ("user_id", "parent_asin", "timestamp")) if header else COLUMNS
    return read_table(Table(path, ",", names, header, "user_id", "parent_asin", "timestamp"))


FORMAT = Format(
    "amazon2023",
    recognises,
    read,
    metadata=partial(beside, is_metadata=is_metadata),
    texts=amazon_texts,
    features=amazon_features,
    columns=columns_of,
    is_text_table=True,
)
