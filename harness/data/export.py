"""A data set and its split, written in other people's file forms, from which they read back as the same."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from uuid import uuid4

from harness.data.catalog import NAMED
from harness.data.filters import Prepared, prepared
from harness.data.formats.format import Exported, Format
from harness.data.formats.read import formats, locate, read_files
from harness.data.open import Source, dataset_name
from harness.data.prepare import read_whole
from harness.data.splits.registry import split_named
from harness.data.splits.split import part_of_each
from harness.errors import DataError, UsageError, nearest


def writable() -> dict[str, Format]:
    """The formats that can be written, by name."""
    return {name: format for name, format in formats().items() if format.write}


def export(source: Source, cache: Path, format_name: str, out: Path) -> tuple[list[Path], str | None]:
    """The files that were written into the new folder `out`, and what they do not tell, if anything.

    `UsageError` for a format that cannot be written; `DataError` for data or a split that it cannot hold.
    """
    if format_name not in writable():
        raise UsageError(f"--to must be a format that can be written; {nearest(format_name, writable())}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out}: is there already, and is not overwritten; name a new folder")
    write = writable()[format_name].write
    assert write is not None
    exported = _exported(source, cache)
    unfinished = out.absolute().with_name(f".{out.name}.{uuid4().hex[:8]}.tmp")
    unfinished.mkdir(parents=True)
    try:
        note = write(exported, unfinished)
        if out.exists():
            out.rmdir()
        os.rename(unfinished, out)
    except OSError as error:
        raise DataError(f"{out}: could not be written ({error.strerror})") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return sorted(out.iterdir()), note


def _exported(source: Source, cache: Path) -> Exported:
    """The data set as it is split."""
    source.check()
    name, content = _whole(source, cache)
    split = split_named(source.split)
    parts = part_of_each(content.whole, split.cut(content.whole, split.config))
    if parts is None:
        raise DataError(
            f"split '{split.name}' asks for items after other histories than theirs, which no file form holds"
        )
    return Exported(name, content.sequences, content.times, parts, content.user_keys, content.item_keys, content.texts)


def _whole(source: Source, cache: Path) -> tuple[str, Prepared]:
    """Name and content, with times where the source has any."""
    if source.is_prepared:
        content, meta = read_whole(Path(source.name))
        return meta["name"], content
    if source.is_named:
        return source.name, prepared(NAMED[source.name].read(cache), NAMED[source.name].config)
    files = locate(source.name, format=source.format, metadata=source.metadata, columns=source.columns)
    return dataset_name(Path(source.name)), prepared(read_files(files, columns=source.columns), source.config)
