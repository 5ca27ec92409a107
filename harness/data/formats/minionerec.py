"""MiniOneRec's csv: one row per sample, `user_id`, `history_item_id` (a list as Python prints it), `item_id`, and more.

The parts are `train/<name>.csv`, `valid/<name>.csv` and `test/<name>.csv`, or `<name>.train.csv` and so on. Items are
numbers, those of `<name>.item.json`, which holds their texts; keys stand in `<name>.item2id`, where it lies by the
test file. Histories there are cut at 10 items; sequences are put together again from successive rows.
"""

from __future__ import annotations

import csv
from functools import partial
from pathlib import Path

import polars as pl

from harness.data.formats import letter
from harness.data.formats.delimited import Table, checked_names, first_line, read_table
from harness.data.formats.format import Columns, Exported, Format, Head, RawInteractions, beside, whole_triple
from harness.data.formats.joined import earlier, in_parts, joined, write_parts
from harness.data.formats.maps import write_maps
from harness.data.splits.split import Part

NEEDED = ("user_id", "history_item_id", "item_id")


def recognises(head: Head) -> bool:
    """Whether the first line is such a header."""
    return set(NEEDED) <= set(head.first.split(","))


def read(paths: tuple[Path, ...], columns: Columns) -> RawInteractions:
    """The sequences of all three files; rows are in order, or have a `timestamp`."""
    rows = in_parts([_rows(path) for path in paths])
    lists = pl.col("history").str.replace_all(r"[\[\]'\"\s]", "").str.split(",")
    # An empty text splits into one empty item.
    rows = rows.with_columns(lists.list.filter(pl.element() != ""))
    return joined(rows, paths[0], is_first_learnt=True)


def _rows(path: Path) -> pl.DataFrame:
    names = checked_names(path, next(csv.reader([first_line(path)])), NEEDED)
    time = "timestamp" if "timestamp" in names else None
    checked = (*NEEDED, time) if time else NEEDED
    return read_table(
        Table(path, ",", names, True, "user_id", "item_id", time, pl.String, history=NEEDED[1], checked=checked)
    )


def write(exported: Exported, folder: Path) -> str | None:
    """Three files with whole histories, `.item.json`, and the maps of numbers to keys; what they do not tell.

    There is no row of a user's first item, since nothing precedes it, and no title, which stand in `.item.json`.
    """
    numbers = [str(number) for number in range(len(exported.items))]
    history = pl.format("[{}]", pl.Series("history_item_id", earlier(exported, numbers, ", ")))
    columns = (
        pl.col("user").alias("user_id"),
        history.alias("history_item_id"),
        pl.col("number").alias("item_id"),
        "part",
    )
    rows = exported.frame().select(*columns, "place").filter(pl.col("place") > 0).drop("place")
    write_parts(rows, exported.name, folder)
    letter.write_texts(exported, folder)
    write_maps(exported, folder)
    learnt = exported.frame().filter(pl.col("part") == Part.TRAIN)["user"].value_counts()
    alone = learnt.filter(pl.col("count") == 1)["user"].sort()
    if not len(alone):
        return None
    return (
        f"{len(alone):,} users (user '{alone[0]}') have one training item, which is no sample; no row tells that it is "
        "learnt, as popularity does"
    )


FORMAT = Format(
    "minionerec",
    recognises,
    read,
    parts=partial(whole_triple, "minionerec"),
    metadata=partial(beside, is_metadata=letter.is_metadata),
    texts=letter.texts,
    features=letter.features,
    universe=letter.universe,
    write=write,
    numbered=("item",),
    is_text_table=True,
)
