"""What a file format is, and what reading one gives: the interface between formats and the preparation."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import polars as pl

from harness.data.files import HEAD_SIZE, readable
from harness.data.item_features import FeatureReader, Features
from harness.data.text.metadata import MetadataReader
from harness.errors import DataError


@dataclass(frozen=True)
class Columns:
    """Names of the columns of a generic table; without `time` the rows' order is the time."""

    user: str | None = None
    item: str | None = None
    time: str | None = None

    @property
    def named(self) -> bool:
        """Whether the user named any column, which makes a text table a generic one."""
        return any((self.user, self.item, self.time))


@dataclass(frozen=True)
class ChosenColumns:
    """The columns of a table: those that are read, and the others."""

    columns: Columns  # without `time` the rows' order is the time
    rating: str | None = None  # not used either: every row is an interaction
    unused: tuple[str, ...] = ()
    is_fixed: bool = False  # the format's own names, which leave nothing to choose

    def __str__(self) -> str:
        """One line for a reader, which says what becomes of the times."""
        chosen = self.columns
        told = f"users in column '{chosen.user}', items in '{chosen.item}', "
        told += f"times in '{chosen.time}'" if chosen.time else "no times: the rows' order counts"
        told += f"; ratings in '{self.rating}' are not used, every row is an interaction" if self.rating else ""
        told += f"; not used: {', '.join(self.unused)}" if self.unused else ""
        return told + (
            "; if one of these holds times, name it with --time-col" if self.unused and not chosen.time else ""
        )


@dataclass(frozen=True)
class RawInteractions:
    """What a source holds before any filter: one row per interaction, in the source's order."""

    frame: pl.DataFrame  # user, item: Categorical; time: Int64 or Float64; no `time`: a user's rows are in order
    texts: Mapping[str, str | None] | None = None  # by item key; None: the source carries no text at all
    item_order: tuple[str, ...] | None = None  # a given order of item ids; else the order of first appearance
    synthetic: bool = False
    format: str | None = None  # None: generated
    columns: ChosenColumns | None = None  # None: the format has no columns
    features: Features | None = None  # None: the source carries none


class Head(NamedTuple):
    """The beginning of a file, by which its format is recognised."""

    magic: bytes  # the first 4 bytes
    lines: list[str]  # the first lines, at most 65,536 characters; none where the file is no text

    @property
    def first(self) -> str:
        """The first line, stripped."""
        return self.lines[0].strip() if self.lines else ""


@dataclass(frozen=True)
class Format:
    """A file format: how it is recognised, which files belong together, how they are read.

    `read` gets the files of one data set and the columns to read, those that the user named or those that `columns`
    makes of them given a file, and returns the frame of `RawInteractions`. It raises `DataError` with file, line, rule
    and value; that no user, item or time is missing, and that times are finite, is checked for it.
    """

    name: str  # as given to --format
    recognises: Callable[[Head], bool]
    read: Callable[[tuple[Path, ...], Columns], pl.DataFrame]
    parts: Callable[[Path], tuple[Path, ...]] = lambda path: (path,)  # all files of a data set, given one of them
    metadata: Callable[[Path], Path | None] = lambda path: None  # finds the file of metadata beside the last part
    texts: MetadataReader | None = None  # reads item texts from the file of metadata
    features: FeatureReader | None = None  # reads item features from it too
    item_order: Callable[[Path], tuple[str, ...]] | None = None  # reads the order of item ids from it instead
    columns: Callable[[Path, Columns], ChosenColumns] | None = None  # None: the format has no columns
    is_text_table: bool = False  # read as `csv` where the user names columns


def head_of(path: Path) -> Head:
    """The file's beginning; `DataError` for an empty file."""
    with path.open("rb") as stream:
        magic = stream.read(4)
    try:
        with readable(path) as stream:
            text = stream.read(HEAD_SIZE)
    except DataError:  # a picture, an archive, a damaged file: nothing that can be told from its lines
        return Head(magic, [])
    if "\0" in text:  # UTF-16 without its mark, say
        return Head(magic, [])
    lines = text.splitlines()
    if not lines:
        raise DataError(f"{path}: the file is empty")
    return Head(magic, lines[:-1] if len(text) == HEAD_SIZE and len(lines) > 1 else lines)  # the last may be cut


def plain_files(folder: Path) -> list[Path]:
    """The folder's own files by name, but for hidden and empty ones."""
    files = (file for file in sorted(folder.iterdir()) if file.is_file() and not file.name.startswith("."))
    return [file for file in files if file.stat().st_size > 0]


def beside(file: Path, is_metadata: Callable[[Head], bool]) -> Path | None:
    """The metadata file in the same folder; of several, the one whose name holds the interaction file's stem."""
    found = [other for other in plain_files(file.parent) if other != file and is_metadata(head_of(other))]
    namesakes = [other for other in found if stem(file).lower() in other.name.lower()]
    found = namesakes if len(found) > 1 else found
    if len(found) > 1:
        raise DataError(
            f"{file}: one metadata file may lie beside it, but there are {len(found)}: "
            f"{', '.join(other.name for other in found)}; choose one with --metadata"
        )
    return found[0] if found else None


def stem(file: Path) -> str:
    """The name up to its first known ending: `Beauty` of `Beauty.txt.gz`, `x` of `x.test.jsonl`."""
    return re.sub(r"(\.(train|valid|test))?\.(csv|tsv|txt|inter|jsonl|json)(\.gz)?$", "", file.name)


def ragged_frame(users: pl.Series, items: pl.Series) -> pl.DataFrame:
    """One row per interaction from one list of items per user; their order is all that is known of the times."""
    frame = pl.DataFrame({"user": users, "item": items}).explode("item")
    return frame.with_columns(pl.col("user", "item").cast(pl.Categorical))
