"""LETTER's json: `<name>.inter.json` {user: [items in order]}, item texts in `<name>.item.json` {item: {field: text}}.

LC-Rec and MiniOneRec write the same files. Users and items are numbers from 0, whose keys stand in `<name>.user2id` and
`<name>.item2id`, where these lie beside them. The split is leave-one-out, as their loaders make it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from harness.data.files import excerpt, readable
from harness.data.formats.format import (
    Columns,
    Exported,
    Format,
    Head,
    beside,
    check_leave_one_out,
    last_two_apart,
    ragged_frame,
)
from harness.data.formats.maps import write_maps
from harness.data.item_features import Features, distinct_values
from harness.data.text.metadata import as_field, item_text
from harness.errors import DataError

FIELDS = ("title", "brand", "categories", "description")  # the order of METHODS B.3


def recognises(head: Head) -> bool:
    """Whether it is an object of lists, by a name of this form: S3-Rec's attributes and codes are such objects too."""
    return ".inter.json" in head.name and re.match(r'\{\s*"[^"]*"\s*:\s*\[', "\n".join(head.lines)) is not None


def is_metadata(head: Head) -> bool:
    """Whether the file is an object of objects that have titles."""
    return re.match(r'\{\s*"[^"]*"\s*:\s*\{\s*"[^"]*"\s*:', "\n".join(head.lines)) is not None and any(
        '"title"' in line for line in head.lines
    )


def read(paths: tuple[Path, ...], columns: Columns) -> pl.DataFrame:
    """The interactions of the `.inter.json` file, in each list's order."""
    (path,) = paths
    content = _object(path)
    for user, items in content.items():
        if not (isinstance(items, list) and items and all(isinstance(item, int | str) for item in items)):
            raise DataError(
                f"{path}: each user must have a list of one item or more, numbers or texts, but user '{user}' has "
                f"{excerpt(json.dumps(items))}; mend or remove the user"
            )
    items = pl.Series([list(map(str, items)) for items in content.values()], dtype=pl.List(pl.String))
    return last_two_apart(ragged_frame(pl.Series(list(content), dtype=pl.String), items))


def texts(path: Path, wanted: Collection[str], fields: Collection[str] | None) -> dict[str, str | None]:
    """Texts by item of the wanted items, from the `.item.json` file; `fields` default to `FIELDS`."""
    found = {}
    for item, record in _object(path).items():
        if not isinstance(record, dict):
            raise DataError(f"{path}: each item must have an object of texts, but item '{item}' has {record!r}")
        if item in wanted:
            found[item] = item_text(record, fields or FIELDS)
    return found


def features(path: Path, wanted: Collection[str]) -> Features:
    """`categories` without the root, and `store`, which is the brand, from the `.item.json` file; as of Amazon's."""
    records = {item: record for item, record in _object(path).items() if item in wanted}
    categories = {item: str(record.get("categories") or "").split(",")[1:] for item, record in records.items()}
    return {
        "categories": {item: distinct_values(values) for item, values in categories.items()},
        "store": {item: distinct_values(record.get("brand")) for item, record in records.items()},
    }


def universe(path: Path, occurring: Collection[str]) -> tuple[str, ...] | None:
    """All items by number: those of the `.item.json` file, and others that occur. None: they are not numbers."""
    items = {*_object(path), *occurring}
    return tuple(sorted(items, key=int)) if all(map(str.isdecimal, items)) else None


def _object(path: Path) -> dict[str, Any]:
    """The content of the file; `DataError` where it is no JSON object, or names a key twice."""
    try:
        with readable(path) as stream:
            content = json.load(stream, object_pairs_hook=partial(_checked, path))
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}:{error.lineno}: the file must be one JSON object, but {error.msg} at column {error.colno}; "
            "mend the file"
        ) from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: the file must be one JSON object, but is a {type(content).__name__}")
    return content


def _checked(path: Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for place, key in enumerate(keys) if key in keys[:place])
        raise DataError(f"{path}: each key must stand once in an object, but '{twice}' stands there twice; join them")
    return content


def write(exported: Exported, folder: Path) -> None:
    """`.inter.json`, `.item.json`, and the maps of numbers; `DataError` for a split that is not leave-one-out."""
    check_leave_one_out("letter", exported)
    rows = (exported.sequences.row(row) - 1 for row in range(len(exported.sequences)))
    _write(folder / f"{exported.name}.inter.json", {str(user): row.tolist() for user, row in enumerate(rows)})
    write_texts(exported, folder)
    write_maps(exported, folder)


def write_texts(exported: Exported, folder: Path) -> None:
    """`<name>.item.json`: all items, each with its whole text as the title."""
    texts = exported.texts or [None] * len(exported.items)
    records = {str(item): dict.fromkeys(FIELDS, "") | {"title": as_field(text)} for item, text in enumerate(texts)}
    _write(folder / f"{exported.name}.item.json", records)


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


FORMAT = Format(
    "letter",
    recognises,
    read,
    metadata=partial(beside, is_metadata=is_metadata),
    texts=texts,
    features=features,
    universe=universe,
    write=write,
    numbered=("user", "item"),
)
