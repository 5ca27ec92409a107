"""Amazon Reviews 2023: csv `user_id,parent_asin,rating,timestamp` (milliseconds; header optional), metadata jsonl."""

import re
from functools import partial
from pathlib import Path

import polars as pl

from harness.data.formats.delimited import Table, checked_names, first_line, read_table
from harness.data.formats.format import Columns, Format, Head, beside
from harness.data.item_features import amazon_features
from harness.data.text.metadata import amazon_texts

COLUMNS = ("user_id", "parent_asin", "rating", "timestamp")


def recognises(head: Head) -> bool:
    """Whether the first line is the header, or a row of a file without one."""
    fields = head.first.split(",")
    has_header = fields[0] == "user_id" and "parent_asin" in fields
    return has_header or re.fullmatch(r"[^,]+,[^,]+,[0-9.]+,[0-9]{9,}", head.first) is not None


def is_metadata(head: Head) -> bool:
    """Whether the file holds items as JSON lines."""
    return head.first.startswith("{") and '"parent_asin"' in head.first


def read(paths: tuple[Path, ...], columns: Columns) -> pl.DataFrame:
    """The interactions of the one file; the columns' names are fixed."""
    (path,) = paths
    first = first_line(path).split(",")
    header = first[0] == "user_id"
    names = checked_names(path, first, ("user_id", "parent_asin", "timestamp")) if header else COLUMNS
    return read_table(Table(path, ",", names, header, "user_id", "parent_asin", "timestamp"))


FORMAT = Format(
    "amazon2023",
    recognises,
    read,
    metadata=partial(beside, is_metadata=is_metadata),
    texts=amazon_texts,
    features=amazon_features,
    is_text_table=True,
)
