"""Item metadata files → one cleaned text per item, or None where an item has no text.

Fields and their order are METHODS B.3: title, store, categories, features, description. An item without a
metadata row keeps None; it is never dropped (METHODS A.2).
"""

from __future__ import annotations

import gzip
import html
import io
import json
import re
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from harness.errors import DataError

AMAZON_FIELDS = ("title", "store", "categories", "features", "description")

_TAG = re.compile(r"</?[a-zA-Z][^<>]*>")
_SPACE = re.compile(r"\s+")


def cleaned(text: str) -> str:
    """The text without HTML tags and entities, every run of white space one blank."""
    return _SPACE.sub(" ", _TAG.sub(" ", html.unescape(text))).strip()


def item_text(record: Mapping[str, Any], fields: Collection[str] = AMAZON_FIELDS) -> str | None:
    """The record's fields in the given order, cleaned, one sentence each; None when all are empty.

    Categories (root first) are joined with commas, other lists are read on. A missing field and a null are empty.
    """
    parts = []
    for field in fields:
        value = record.get(field)
        values = value if isinstance(value, list) else [value]
        texts = [cleaned(str(element)) for element in values if element is not None]
        joined = (", " if field == "categories" else " ").join(text for text in texts if text)
        if joined:
            parts.append(joined.rstrip("."))
    return ". ".join(parts) or None


@contextmanager
def readable(path: Path) -> Iterator[TextIO]:
    """A text stream of a plain or gzipped UTF-8 file (told by its first two bytes), a leading BOM removed.

    `DataError` that names the file when its gzip data or its UTF-8 turns out to be broken.
    """
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        data = gzip.GzipFile(fileobj=file) if zipped else file
        try:
            yield io.TextIOWrapper(data, encoding="utf-8-sig")
        except (EOFError, gzip.BadGzipFile, zlib.error):
            raise DataError(f"{path}: the gzip data ends early or is damaged; fetch the file again") from None
        except UnicodeDecodeError as error:
            byte = error.object[error.start]
            raise DataError(f"{path}: text must be UTF-8, but byte {byte:#04x} is not; convert the file") from None


def json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each line's number (from 1) and its object; `DataError` for a line that is no JSON object."""
    with readable(path) as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(
                    f"{path}:{number}: each line must be a JSON object, but {error.msg} at column {error.colno}: "
                    f"{excerpt(line)}; mend or remove the line"
                ) from None
            if not isinstance(record, dict):
                raise DataError(f"{path}:{number}: each line must be a JSON object, but got {excerpt(line)}")
            yield number, record


def excerpt(line: str, width: int = 60) -> str:
    """The line's start, quoted, for a message."""
    line = line.rstrip("\n")
    return repr(line if len(line) <= width else line[:width] + "…")


def amazon_texts(path: Path, wanted: Collection[str], fields: Collection[str] | None) -> dict[str, str | None]:
    """Texts by `parent_asin` of the wanted items, from an Amazon Reviews 2023 metadata file (METHODS A.2)."""
    texts: dict[str, str | None] = {}
    for number, record in json_lines(path):
        if "parent_asin" not in record:
            raise DataError(
                f"{path}:{number}: an item's metadata needs the key 'parent_asin', but has "
                f"{', '.join(list(record)[:6])}; name another file with --metadata"
            )
        key = str(record["parent_asin"])
        if key in wanted:
            texts[key] = item_text(record, fields or AMAZON_FIELDS)
    return texts


def recbole_texts(path: Path, wanted: Collection[str], fields: Collection[str] | None) -> dict[str, str | None]:
    """Texts by item token of the wanted items, from a RecBole `.item` file.

    Without `fields`: every column but `item_id` and the float ones, in the file's order.
    """
    texts: dict[str, str | None] = {}
    with readable(path) as stream:
        names, kinds = zip(
            *(part.partition(":")[::2] for part in stream.readline().rstrip("\n").split("\t")), strict=True
        )
        chosen = fields or [
            name for name, kind in zip(names, kinds, strict=True) if name != "item_id" and "float" not in kind
        ]
        for number, line in enumerate(stream, start=2):
            values = line.rstrip("\n").split("\t")
            if len(values) != len(names):
                raise DataError(
                    f"{path}:{number}: each row must have {len(names)} tab-separated fields, but has {len(values)}: "
                    f"{excerpt(line)}"
                )
            record = dict(zip(names, values, strict=True))
            if record["item_id"] in wanted:
                texts[record["item_id"]] = item_text(record, chosen)
    return texts


def attribute_texts(path: Path, wanted: Collection[str], fields: Collection[str] | None) -> dict[str, str | None]:
    """Texts by item of the wanted items, from S3-Rec's `item2attributes` file: `attribute_3 attribute_17`.

    The file holds numbers without names, so the text is one made-up word per attribute: enough for TF-IDF,
    nothing that a sentence encoder could understand.
    """
    with readable(path) as stream:
        try:
            attributes = json.load(stream)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}:{error.lineno}: the file must be one JSON object, but {error.msg}") from None
    if not isinstance(attributes, dict):
        raise DataError(f"{path}: the file must be one JSON object of item: [attribute numbers]")
    return {
        item: " ".join(f"attribute_{number}" for number in numbers) or None
        for item, numbers in attributes.items()
        if item in wanted
    }


MetadataReader = Callable[[Path, Collection[str], Collection[str] | None], dict[str, str | None]]
