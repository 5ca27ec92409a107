"""Ranked lists as files: csv, parquet, JSON lines and TREC runs, with users and items by their raw keys.

A line or row names a user, an item, and its rank (from 1, or from 0) or score (higher is better); parquet and JSON
lines may hold a user's whole list instead (`items`, best first, and `scores`). A TREC run has the columns user, Q0,
item, rank, score, tag. A name may end in .gz.
"""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable
from pathlib import Path

import polars as pl

from harness.errors import DataError
from results.store.whole_files import whole

NAMES = {  # small letters → the column that is meant
    **dict.fromkeys(("user", "user_id", "userid", "uid", "reviewerid", "qid", "query"), "user"),
    **dict.fromkeys(("item", "item_id", "itemid", "iid", "parent_asin", "asin", "docid", "doc"), "item"),
    **dict.fromkeys(("items", "item_ids", "recommendations"), "items"),
    **dict.fromkeys(("rank", "position", "place"), "rank"),
    **dict.fromkeys(("score", "prediction", "rating"), "score"),
    "scores": "scores",
}
TREC = ("user", "q0", "item", "rank", "score", "tag")


def form_of(path: Path) -> str:
    """The form that a file's name ends in; `DataError` for an unknown one."""
    ending = Path(path.name.removesuffix(".gz")).suffix.lower()
    if ending not in ENDINGS:
        raise DataError(f"{path}: must end in one of {', '.join(ENDINGS)} (.gz may follow); name another file")
    return ENDINGS[ending]


def read_lists(path: Path) -> pl.DataFrame:
    """One row per listed item: user, item (text), rank (Int64) and score (Float64), of which one column may be null.

    `DataError` for a file that cannot be read, lacks a column, or has a rank or score that is no number.
    """
    form = form_of(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file; check the path")
    try:
        content = path.read_bytes()
        frame = READERS[form](gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content)
    except (pl.exceptions.PolarsError, UnicodeDecodeError, EOFError, gzip.BadGzipFile) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path}: cannot be read as {form} ({reason}); check its content, or its ending") from None
    return _typed(_in_rows(_named(frame, path), path), path)


def write_lists(lists: pl.DataFrame, path: Path, tag: str) -> None:
    """A file of one row per listed item, in the form of its ending; `tag` names the run in a TREC file."""
    form = form_of(path)
    content = io.BytesIO()
    WRITERS[form](lists.drop("score") if lists["score"].is_null().all() else lists, content, tag)
    data = content.getvalue()
    with whole(path) as temporary:
        temporary.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def _named(frame: pl.DataFrame, path: Path) -> pl.DataFrame:
    """The columns that are meant, under their names here."""
    meant: dict[str, str] = {}
    for column in frame.columns:
        name = NAMES.get(column.strip().lower())
        if name is not None and name in meant.values():
            raise DataError(f"{path}: two columns are a {name}, '{column}' one of them; leave one of them out")
        if name is not None:
            meant[column] = name
    found = frame.select(list(meant)).rename(meant)
    if "user" not in found.columns or ("item" in found.columns) == ("items" in found.columns):
        raise DataError(
            f"{path}: must have a column of users and one of items (user, item, rank or score), but has "
            f"{', '.join(frame.columns) or 'none'}"
        )
    return found


def _in_rows(frame: pl.DataFrame, path: Path) -> pl.DataFrame:
    """A row for each listed item, where the file has one for each user."""
    if "items" not in frame.columns:
        if "rank" not in frame.columns and "score" not in frame.columns:
            raise DataError(f"{path}: must have a column of ranks or of scores, but has {', '.join(frame.columns)}")
        return frame
    lists = [name for name in ("items", "scores") if name in frame.columns]
    for name in lists:
        if not isinstance(frame[name].dtype, pl.List):
            raise DataError(f"{path}: {name} must hold a list for each user, but holds {frame[name].dtype}")
    if "scores" in lists and (frame["items"].list.len() != frame["scores"].list.len()).any():
        raise DataError(f"{path}: items and scores of a user must be of one length, but some are not")
    repeated = frame["user"].is_duplicated()
    if repeated.any():
        user = frame["user"].filter(repeated)[0]
        raise DataError(f"{path}: must have one list for each user, but user '{user}' has several")
    ranks = pl.int_ranges(1, pl.col("items").list.len() + 1).alias("rank")
    rows = frame.select("user", *lists, ranks).explode(*lists, "rank").drop_nulls("rank")
    return rows.rename({"items": "item", "scores": "score"}, strict=False)


def _typed(frame: pl.DataFrame, path: Path) -> pl.DataFrame:
    """The four columns in their types."""
    columns = [frame[name].cast(pl.String).alias(name) for name in ("user", "item")]
    for name, dtype in (("rank", pl.Int64()), ("score", pl.Float64())):
        if name not in frame.columns:
            columns.append(pl.Series(name, [None] * len(frame), dtype=dtype))
            continue
        made = frame[name].cast(pl.Float64, strict=False)
        wrong = made.is_null() | ((made != made.floor()) | made.is_infinite() if name == "rank" else made.is_null())
        if wrong.any():
            what = "a whole number" if name == "rank" else "a number"
            example, user = frame[name].filter(wrong)[0], frame["user"].filter(wrong)[0]
            raise DataError(
                f"{path}: {name} must be {what}, but {wrong.sum():,} are not, such as '{example}' of user '{user}'"
            )
        columns.append(made.cast(dtype))
    return pl.DataFrame(columns)


def _read_csv(separator: str) -> Callable[[bytes], pl.DataFrame]:
    return lambda data: pl.read_csv(data, infer_schema=False, separator=separator)


def _read_trec(data: bytes) -> pl.DataFrame:
    rows = [line.split() for line in data.decode().splitlines() if line.strip()]
    for number, row in enumerate(rows, 1):
        if len(row) != len(TREC):
            raise pl.exceptions.ComputeError(f"line {number} has {len(row)} fields instead of {len(TREC)}")
    return pl.DataFrame(rows, schema=dict.fromkeys(TREC, pl.String), orient="row")


def _write_trec(lists: pl.DataFrame, file: io.BytesIO, tag: str) -> None:
    for name in ("user", "item"):
        spaced = lists[name].filter(lists[name].str.contains(r"\s"))
        if len(spaced):
            raise DataError(f"a TREC run has no room for spaces, but {name} '{spaced[0]}' has one; write .csv")
    scores = lists["score"] if "score" in lists.columns else -lists["rank"].cast(pl.Float64)
    tag = "-".join(tag.split())
    for user, item, rank, score in zip(lists["user"], lists["item"], lists["rank"], scores, strict=True):
        file.write(f"{user} Q0 {item} {rank} {score!r} {tag}\n".encode())


ENDINGS = {
    ".csv": "csv", ".tsv": "tsv", ".parquet": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl",
    ".run": "trec", ".trec": "trec",
}  # fmt: skip
READERS: dict[str, Callable[[bytes], pl.DataFrame]] = {
    "csv": _read_csv(","),
    "tsv": _read_csv("\t"),
    "parquet": lambda data: pl.read_parquet(io.BytesIO(data)),
    "jsonl": lambda data: pl.read_ndjson(io.BytesIO(data), infer_schema_length=None),
    "trec": _read_trec,
}
WRITERS: dict[str, Callable[[pl.DataFrame, io.BytesIO, str], None]] = {
    "csv": lambda lists, file, tag: lists.write_csv(file),
    "tsv": lambda lists, file, tag: lists.write_csv(file, separator="\t"),
    "parquet": lambda lists, file, tag: lists.write_parquet(file),
    "jsonl": lambda lists, file, tag: lists.write_ndjson(file),
    "trec": _write_trec,
}
