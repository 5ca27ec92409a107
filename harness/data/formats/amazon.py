"""Amazon Reviews 2023: csv `user_id,parent_asin,rating,timestamp` (milliseconds; header optional), metadata jsonl.

The published splits are three such files, `<name>.{train,valid,test}.csv` (`last_out`, `timestamp`), or these with a
column `history` of the items before, blanks between (`last_out_w_his`, `timestamp_w_his`; METHODS A.2).
"""

import json
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import polars as pl

from harness.data.formats.columns import arranged
from harness.data.formats.delimited import Table, checked_names, first_line, read_table
from harness.data.formats.format import (
    ChosenColumns,
    Columns,
    Exported,
    Format,
    Head,
    RawInteractions,
    beside,
    check_keys,
    triple_of,
)
from harness.data.formats.joined import earlier, in_parts, joined, write_parts
from harness.data.formats.maps import write_maps
from harness.data.item_features import amazon_features
from harness.data.text.metadata import amazon_texts, as_field

COLUMNS = ("user_id", "parent_asin", "rating", "timestamp")
HISTORY = "history"


def recognises(head: Head) -> bool:
    """Whether the first line is the header, or a row of a file without one."""
    is_header = {"user_id", "parent_asin", "timestamp"} <= set(head.first.split(","))
    return is_header or re.fullmatch(r"[^,]+,[^,]+,[0-9.]+,[0-9]{9,}(,[^,]*)?", head.first) is not None


def is_metadata(head: Head) -> bool:
    """Whether the file holds items as JSON lines."""
    return head.first.startswith("{") and '"parent_asin"' in head.first


def parts(file: Path) -> tuple[Path, ...]:
    """Train, valid and test where all three lie there; else the file alone."""
    triple = triple_of(file)
    return triple if triple and all(path.is_file() for path in triple) else (file,)


def columns_of(path: Path, asked: Columns) -> ChosenColumns:
    """The columns that are read, whose names are fixed."""
    first = first_line(path).split(",")
    header = [name for name in first if name != HISTORY] if has_header(first) else COLUMNS
    columns = Columns("user_id", "parent_asin", "timestamp")
    return arranged(path, header, columns, is_fixed=True)


def has_header(fields: Sequence[str]) -> bool:
    """Whether these are the names of the columns, and not the file's first row."""
    return "user_id" in fields and "parent_asin" in fields


def read(paths: tuple[Path, ...], columns: Columns) -> pl.DataFrame | RawInteractions:
    """The interactions of the one file or of the three; the columns' names are fixed."""
    frames = [_rows(path) for path in paths]
    if len(frames) == 1:
        return frames[0].drop(HISTORY, strict=False)
    if not all(HISTORY in frame.columns for frame in frames):
        return in_parts([frame.drop(HISTORY, strict=False) for frame in frames])
    rows = in_parts(frames).with_columns(pl.col(HISTORY).str.extract_all(r"\S+"))
    return joined(rows, paths[0], is_first_learnt=False)


def _rows(path: Path) -> pl.DataFrame:
    first = first_line(path).split(",")
    header = has_header(first)
    plain = (*COLUMNS, HISTORY)[: len(first)] if len(first) > len(COLUMNS) else COLUMNS
    names = checked_names(path, first, ("user_id", "parent_asin", "timestamp")) if header else plain
    checked = tuple(name for name in names if name != HISTORY)
    history = HISTORY if HISTORY in names else None
    return read_table(
        Table(path, ",", names, header, "user_id", "parent_asin", "timestamp", history=history, checked=checked)
    )


def write(exported: Exported, folder: Path) -> None:
    """Three files with histories, metadata, and the maps that keep the order of items and users.

    Ratings are not known here: each is 1.0. Without times the timestamps are the places in the sequence.
    """
    check_keys("amazon2023", exported.items, r"\s")
    frame, time = exported.frame(), pl.col("place" if exported.times is None else "time").floor().cast(pl.Int64)
    history = pl.Series(HISTORY, [text or None for text in earlier(exported, exported.items.to_list(), " ")])
    rows = frame.select(
        pl.col("user").alias("user_id"),
        pl.col("item").alias("parent_asin"),
        pl.lit("1.0").alias("rating"),
        time.alias("timestamp"),
        history,
        "part",
    )
    write_parts(rows, exported.name, folder)
    write_metadata(exported, folder)
    write_maps(exported, folder)


def write_metadata(exported: Exported, folder: Path) -> None:
    """`meta_<name>.jsonl` with the items that have a text, as their title; no file where none has one."""
    if exported.texts is None:
        return
    pairs = zip(exported.items.to_list(), exported.texts, strict=True)
    lines = (json.dumps({"parent_asin": key, "title": as_field(text)}) + "\n" for key, text in pairs if text)
    (folder / f"meta_{exported.name}.jsonl").write_text("".join(lines), encoding="utf-8")


FORMAT = Format(
    "amazon2023",
    recognises,
    read,
    parts=parts,
    write=write,
    metadata=partial(beside, is_metadata=is_metadata),
    texts=amazon_texts,
    features=amazon_features,
    columns=columns_of,
    is_text_table=True,
)
