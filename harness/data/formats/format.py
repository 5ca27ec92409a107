"""What a file format is, and what reading one gives: the interface between formats and the preparation."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from harness.data.dataset import Sequences
from harness.data.files import HEAD_SIZE, readable
from harness.data.item_features import FeatureReader, Features
from harness.data.splits.split import Part
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

    # user, item: Categorical; time: Int64 or Float64 (no such column: a user's rows are in order);
    # part: UInt8 of `Part` (no such column: the files are not split).
    frame: pl.DataFrame
    texts: Mapping[str, str | None] | None = None  # by item key; None: the source carries no text at all
    item_order: tuple[str, ...] | None = None  # all items by id; else those that occur, by first appearance
    synthetic: bool = False
    notes: tuple[str, ...] = ()  # what could not be read as it was meant, a line each
    format: str | None = None  # None: generated
    columns: ChosenColumns | None = None  # None: the format has no columns
    features: Features | None = None  # None: the source carries none


class Head(NamedTuple):
    """The beginning of a file, by which its format is recognised."""

    magic: bytes  # the first 4 bytes
    lines: list[str]  # the first lines, at most 65,536 characters; none where the file is no text
    name: str = ""  # of the file

    @property
    def first(self) -> str:
        """The first line, stripped."""
        return self.lines[0].strip() if self.lines else ""


@dataclass(frozen=True)
class Exported:
    """A data set and its split, as a format writes them."""

    name: str  # of the files, without endings
    sequences: Sequences  # U rows of item ids
    times: np.ndarray | None  # (T,); None: their order is all that is known
    parts: np.ndarray  # (T,) uint8 of `Part`
    users: pl.Series  # (U,) String
    items: pl.Series  # (N,) String: the key of item i stands in row i - 1
    texts: tuple[str | None, ...] | None

    def frame(self) -> pl.DataFrame:
        """user, item (keys), number (of the item, from 0), place (in the sequence, from 0), part, time (if known)."""
        lengths = self.sequences.lengths
        place = np.arange(len(self.sequences.items)) - np.repeat(self.sequences.offsets[:-1], lengths)
        number = self.sequences.items - 1
        frame = pl.DataFrame({"number": number, "place": place, "part": self.parts})
        user = self.users.gather(np.repeat(np.arange(len(lengths)), lengths))
        frame = frame.with_columns(user.alias("user"), self.items.gather(number).alias("item"))
        return frame if self.times is None else frame.with_columns(pl.Series("time", self.times))


@dataclass(frozen=True)
class Format:
    """A file format: how it is recognised, which files belong together, how they are read.

    `read` gets the files of one data set and the columns to read, those that the user named or those that `columns`
    makes of them given a file, and returns the frame of `RawInteractions`, or these with notes. It raises `DataError`
    with file, line, rule and value; that no user, item or time is missing, and that times are finite, is checked.
    """

    name: str  # as given to --format
    recognises: Callable[[Head], bool]
    read: Callable[[tuple[Path, ...], Columns], pl.DataFrame | RawInteractions]
    parts: Callable[[Path], tuple[Path, ...]] = lambda path: (path,)  # all files of a data set, given one of them
    metadata: Callable[[Path], Path | None] = lambda path: None  # finds the file of metadata beside the last part
    texts: MetadataReader | None = None  # reads item texts from the file of metadata
    features: FeatureReader | None = None  # reads item features from it too
    # Lists all items by id, from the file of metadata and the items that occur.
    universe: Callable[[Path, Collection[str]], tuple[str, ...] | None] | None = None
    columns: Callable[[Path, Columns], ChosenColumns] | None = None  # None: the format has no columns
    # Writes a data set and its split into a folder, and says what the files do not tell; None: it cannot.
    write: Callable[[Exported, Path], str | None] | None = None
    numbered: tuple[str, ...] = ()  # of user and item: what is told by numbers, whose keys stand in a map beside
    is_text_table: bool = False  # read as `csv` where the user names columns


def head_of(path: Path) -> Head:
    """The file's beginning."""
    with path.open("rb") as stream:
        magic = stream.read(4)
    try:
        with readable(path) as stream:
            text = stream.read(HEAD_SIZE)
    except DataError:  # a picture, an archive, a damaged file: nothing that can be told from its lines
        return Head(magic, [], path.name)
    if "\0" in text:  # UTF-16 without its mark, say
        return Head(magic, [], path.name)
    lines = text.splitlines()
    is_cut = len(text) == HEAD_SIZE and len(lines) > 1  # the last line may be
    return Head(magic, lines[:-1] if is_cut else lines, path.name)


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
    return re.sub(r"(\.(train|valid|test|inter))?\.(csv|tsv|txt|inter|jsonl|json)(\.gz)?$", "", file.name)


def triple_of(file: Path) -> tuple[Path, ...]:
    """The paths of train, valid and test, given one of them: by name, or by folder; none where neither tells."""
    parts = ("train", "valid", "test")
    if re.search(r"(^|\.)(train|valid|test)\.", file.name):
        return tuple(
            file.with_name(re.sub(r"(^|\.)(train|valid|test)\.", rf"\g<1>{part}.", file.name)) for part in parts
        )
    if file.parent.name in parts:
        return tuple(file.parent.with_name(part) / file.name for part in parts)
    return ()


def whole_triple(format: str, file: Path) -> tuple[Path, ...]:
    """The files of train, valid and test, given one of them; `DataError` where one is missing."""
    triple = triple_of(file)
    missing = [str(path) for path in triple if not path.is_file()]
    if missing or not triple:
        raise DataError(
            f"{file}: {format} needs files <name>.train, <name>.valid and <name>.test (or folders of these names), but "
            f" {', '.join(missing) or file.name} {'is missing' if missing else 'is named otherwise'}"
        )
    return triple


def check_keys(name: str, keys: pl.Series, forbidden: str) -> None:
    """`DataError` for a key with a character that matches the pattern: the form could not be read back."""
    broken = keys.filter(keys.str.contains(forbidden))
    if len(broken):
        raise DataError(
            f"{name} cannot hold the key {broken[0]!r}, as one of {len(broken):,}, for a character of it separates "
            "fields or items there; write another format with --to, or rename the keys"
        )


def check_leave_one_out(name: str, exported: Exported) -> None:
    """`DataError` where the split is not the one that the format implies."""
    frame = last_two_apart(exported.frame())
    if exported.sequences.lengths.min() < 3 or not np.array_equal(frame["part"].to_numpy(), exported.parts):
        raise DataError(
            f"{name} holds whole sequences, whose split is leave-one-out; write this split with --to amazon2023 or "
            "minionerec"
        )


def ragged_frame(users: pl.Series, items: pl.Series) -> pl.DataFrame:
    """One row per interaction from one list of items per user; their order is all that is known of the times."""
    frame = pl.DataFrame({"user": users, "item": items}).explode("item")
    return frame.with_columns(pl.col("user", "item").cast(pl.Categorical))


def last_two_apart(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with each user's last row as `part` test, the one before as validation: files that imply this split."""
    from_end = pl.len().over("user") - 1 - pl.int_range(pl.len()).over("user")
    part = pl.when(from_end == 0).then(Part.TEST).when(from_end == 1).then(Part.VALIDATION).otherwise(Part.TRAIN)
    return frame.with_columns(part.cast(pl.UInt8).alias("part"))
