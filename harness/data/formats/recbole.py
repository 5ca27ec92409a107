"""RecBole's atomic files: tab-separated `.inter` with a header of `name:type`, item texts and features in `.item`."""

import re
from functools import partial
from pathlib import Path

import polars as pl

from harness.data.formats.columns import arranged, common_column
from harness.data.formats.delimited import Table, first_line, read_table
from harness.data.formats.format import (
    ChosenColumns,
    Columns,
    Exported,
    Format,
    Head,
    beside,
    check_keys,
    check_leave_one_out,
)
from harness.data.formats.maps import write_maps
from harness.data.item_features import recbole_features
from harness.data.text.metadata import as_field, recbole_texts


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


def write(exported: Exported, folder: Path) -> None:
    """`.inter`, `.item` with one text, and the maps; `DataError` for another split than leave-one-out.

    Where times are not known, or two of a user's are equal, timestamps are the places in the sequence: RecBole does not
    promise the order of equal ones.
    """
    check_leave_one_out("recbole", exported)
    for keys in (exported.users, exported.items):
        check_keys("recbole", keys, r"[\t\n\r]")
    frame = exported.frame()
    is_same_user = (pl.col("place") > 0).fill_null(False)
    if exported.times is None or frame.select((is_same_user & (pl.col("time").diff() == 0)).any()).item():
        frame = frame.with_columns(pl.col("place").alias("time"))
    rows = frame.select(
        pl.col("user").alias("user_id:token"),
        pl.col("item").alias("item_id:token"),
        pl.col("time").cast(pl.Float64).alias("timestamp:float"),
    )
    rows.write_csv(folder / f"{exported.name}.inter", separator="\t", quote_style="never")
    if exported.texts is not None:
        texts = pl.Series("text:token_seq", list(map(as_field, exported.texts)), dtype=pl.String)
        items = pl.DataFrame({"item_id:token": exported.items, "text:token_seq": texts})
        items.write_csv(folder / f"{exported.name}.item", separator="\t", quote_style="never")
    write_maps(exported, folder)


FORMAT = Format(
    "recbole",
    recognises,
    read,
    metadata=partial(beside, is_metadata=is_metadata),
    texts=recbole_texts,
    features=recbole_features,
    write=write,
    columns=columns_of,
    is_text_table=True,
)
