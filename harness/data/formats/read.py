"""Raw files → one table of (user, item, time) in the file's order, and the items' texts.

A format is recognised from the file's content, never from its name alone, and can be forced. Third parties add formats
through the entry-point group `harness.formats`: an entry point loads to a `Format`. Text files may be gzipped.
"""

from __future__ import annotations

import functools
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

import polars as pl

from harness.data.files import check_text, excerpt
from harness.data.formats import amazon, etegrec_jsonl, letter, minionerec, recbole, s3rec, table
from harness.data.formats.format import Columns, Format, RawInteractions, head_of, plain_files
from harness.data.formats.maps import Maps, is_map, maps_beside, read_map, with_maps
from harness.data.plugins import registered
from harness.data.times import LIMIT
from harness.errors import DataError, UsageError, nearest

ENTRY_POINTS = "harness.formats"
# A file is taken for the first of these that recognises it; formats of installed packages are asked before them.
BUILT_IN = (
    minionerec.FORMAT,
    amazon.FORMAT,
    recbole.FORMAT,
    s3rec.FORMAT,
    etegrec_jsonl.FORMAT,
    letter.FORMAT,
    table.CSV,
    table.PARQUET,
)


@functools.cache
def formats() -> dict[str, Format]:
    """All formats by name."""
    return registered(ENTRY_POINTS, Format, BUILT_IN)


@dataclass(frozen=True)
class SourceFiles:
    """The files of one data set and their format."""

    format: str
    interactions: tuple[Path, ...]
    metadata: Path | None = None
    maps: Maps = field(default_factory=Maps)

    @property
    def all(self) -> tuple[Path, ...]:
        """Every file that is read."""
        return (*self.interactions, *(path for path in (self.metadata, *self.maps) if path))


def read_interactions(
    path: Path | str,
    *,
    format: str | None = None,
    metadata: Path | str | None = None,
    columns: Columns | None = None,
    text_fields: Collection[str] | None = None,
) -> RawInteractions:
    """The interactions of a file or folder, with the texts of its items where metadata lies beside it.

    `text_fields` chooses and orders the metadata fields that make an item's text (default: METHODS B.3).
    Raises `DataError` naming file, line, rule and value; `UsageError` for an unknown format.
    """
    files = locate(path, format=format, metadata=metadata, columns=columns)
    return read_files(files, columns=columns, text_fields=text_fields)


def read_files(
    files: SourceFiles, *, columns: Columns | None = None, text_fields: Collection[str] | None = None
) -> RawInteractions:
    """The interactions and texts of files found by `locate`."""
    format, columns = formats()[files.format], columns or Columns()
    chosen = format.columns(files.interactions[-1], columns) if format.columns else None
    columns = chosen.columns if chosen else columns
    found = format.read(files.interactions, columns)
    raw = RawInteractions(found) if isinstance(found, pl.DataFrame) else found
    raw = replace(raw, format=format.name, columns=chosen)
    _check(raw.frame, files.interactions[-1], columns)
    occurring = raw.frame["item"].unique().cast(pl.String).to_list()
    if files.metadata and format.universe:
        raw = replace(raw, item_order=format.universe(files.metadata, occurring))
    wanted = {*occurring, *(raw.item_order or ()), *(read_map(files.maps.items) if files.maps.items else ())}
    if files.metadata and format.texts:
        raw = replace(raw, texts=format.texts(files.metadata, wanted, text_fields))
        if not raw.texts:
            raise DataError(
                f"{files.metadata}: must hold texts of the items in {files.interactions[-1]}, but names none of them, "
                f"such as '{occurring[0]}'; name the right file with --metadata"
            )
    if files.metadata and format.features:
        raw = replace(raw, features=format.features(files.metadata, wanted))
    return with_maps(raw, files.maps, format.numbered)


def _check(frame: pl.DataFrame, path: Path, columns: Columns) -> None:
    """`DataError` for no interaction, and with row and column for a missing value or a time that is not finite."""
    if frame.is_empty():
        raise DataError(f"{path}: the file holds no interaction")
    for name in frame.columns:
        values, column = frame[name], getattr(columns, name, None) or name
        if values.null_count():
            row = int(values.is_null().arg_max() or 0)
            raise DataError(
                f"{path}: row {row + 1}: the {name} must not be null, NaN or empty, as column '{column}' is; mend or "
                "remove the row"
            )
        if name == "time" and not values.dtype.is_numeric():
            raise DataError(f"{path}: column '{column}' must hold numbers or dates, but holds {values.dtype}")
        if values.dtype.is_float() and not (is_good := values.abs() < LIMIT).all():
            row = int((~is_good).arg_max() or 0)
            raise DataError(
                f"{path}: row {row + 1}: the {name} must be finite and have at most 64 bits, but column '{column}' "
                f"holds {values[row]}; mend or remove the row"
            )


def locate(
    path: Path | str,
    *,
    format: str | None = None,
    metadata: Path | str | None = None,
    columns: Columns | None = None,
) -> SourceFiles:
    """The files of the data set at `path` (a file, or a folder that holds one data set) and their format."""
    path = Path(path)
    if format is not None and format not in formats():
        raise UsageError(f"unknown format '{format}'; {nearest(format, formats())}")
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    if not (path.is_file() or path.is_dir()):
        raise DataError(f"{path}: must be a file or a folder, but is a pipe or a device; write it to a file first")
    if metadata is not None and not Path(metadata).is_file():
        raise DataError(f"{metadata}: no such metadata file")
    named = columns is not None and columns.named
    file, found = path, formats().get(format or "")
    if path.is_dir():
        file, found = _interaction_file(path, format, named)
    elif found is None:
        found = recognised(path, columns_named=named)
    if found is None:
        check_text(file)
        raise DataError(
            f"{file}: not an interaction file of a known format, for its first line is {excerpt(head_of(file).first)}; "
            f"save it as csv or parquet with named columns, or name one with --format: {', '.join(formats())}"
        )
    if metadata is not None and found.texts is None:
        raise UsageError(f"--metadata {metadata}: format '{found.name}' reads no metadata; leave it out")
    interactions = found.parts(file)
    texts = Path(metadata) if metadata else found.metadata(interactions[-1])
    return SourceFiles(found.name, interactions, texts, maps_beside(interactions[-1]))


def recognised(path: Path, *, columns_named: bool = False) -> Format | None:
    """The format of a file's content, None for an unknown one.

    A text table whose columns the user named is read by those names.
    """
    head = head_of(path)
    own = [format for format in formats().values() if format not in BUILT_IN]
    found = next((format for format in (*own, *BUILT_IN) if format.recognises(head)), None)
    return table.CSV if columns_named and found is not None and found.is_text_table else found


def _interaction_file(folder: Path, name: str | None, columns_named: bool) -> tuple[Path, Format]:
    """The one data set's last file in the folder; `name` is the format that it must have."""
    files = [file for file in plain_files(folder) if not is_map(file)]
    if not files and (folder / "test").is_dir():  # MiniOneRec's parts lie in folders
        files = plain_files(folder / "test")
    kinds = {file: recognised(file, columns_named=columns_named) for file in files}
    found = {file: kind for file, kind in kinds.items() if kind is not None and name in (None, kind.name)}
    last_parts = {kind.parts(file)[-1]: kind for file, kind in found.items()} if len(found) > 1 else found
    if len(last_parts) == 1:
        return next(iter(last_parts.items()))
    wanted = f"{name} file" if name else "interaction file of a known format"
    if not found:
        raise DataError(f"{folder}: the folder holds no {wanted}; name the file itself, and --format if need be")
    raise DataError(
        f"{folder}: the folder must hold one {wanted}, but holds {len(last_parts)}: "
        f"{', '.join(file.name for file in last_parts)}; name the one that you mean"
    )
