"""Item metadata files → one cleaned text per item, or None where an item has no text.

Fields and their order are METHODS B.3: title, store, categories, features, description. An item without a
metadata row keeps None; it is never dropped (METHODS A.2).
"""

from __future__ import annotations

import html
import json
import re
import statistics
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.data.files import excerpt, json_lines, readable
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


def as_field(text: str | None) -> str:
    """The text as a field that reads back as the same.

    Cleaning would change what looks like markup, which is escaped, and take a blank off the end, which a stop protects.
    """
    written = (f"{form}{stop}" for form in (text or "", html.escape(text or "", quote=False)) for stop in ("", "."))
    return next((field for field in written if item_text({"title": field}) == text), text or "")


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


def recbole_items(path: Path) -> tuple[dict[str, str], Iterator[dict[str, str]]]:
    """The columns of a RecBole `.item` file with their types, and its rows by column; `DataError` for a broken row."""
    with readable(path) as stream:
        fields = (part.partition(":")[::2] for part in stream.readline().rstrip("\n").split("\t"))
        kinds = dict(fields)
    return kinds, _recbole_rows(path, list(kinds))


def _recbole_rows(path: Path, names: list[str]) -> Iterator[dict[str, str]]:
    with readable(path) as stream:
        stream.readline()
        for number, line in enumerate(stream, start=2):
            values = line.rstrip("\n").split("\t")
            if len(values) != len(names):
                raise DataError(
                    f"{path}:{number}: each row must have {len(names)} tab-separated fields, but has {len(values)}: "
                    f"{excerpt(line)}"
                )
            yield dict(zip(names, values, strict=True))


def recbole_texts(path: Path, wanted: Collection[str], fields: Collection[str] | None) -> dict[str, str | None]:
    """Texts by item token of the wanted items, from a RecBole `.item` file.

    Without `fields`: every column but `item_id` and the float ones, in the file's order.
    """
    kinds, rows = recbole_items(path)
    chosen = fields or [name for name, kind in kinds.items() if name != "item_id" and "float" not in kind]
    return {record["item_id"]: item_text(record, chosen) for record in rows if record["item_id"] in wanted}


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


def text_facts(texts: Sequence[str | None] | None) -> dict[str, Any]:
    """Kind (`none`, `attribute numbers`, `words`) and the median number of words of the items that have a text."""
    present = [text.split() for text in texts or () if text]
    if not present:
        return {"kind": "none"}
    only_numbers = all(re.fullmatch(r"(attribute_)?\d+", word) for words in present for word in words)
    kind = "attribute numbers" if only_numbers else "words"
    return {"kind": kind, "median_words": statistics.median(map(len, present))}


def told_texts(facts: Mapping[str, Any]) -> str:
    """The facts in one line."""
    if facts["kind"] == "none":
        return "none: methods that read text need --metadata FILE or vectors of your own"
    about = "; no words, so a sentence encoder understands nothing" if facts["kind"] == "attribute numbers" else ""
    return f"{facts['kind']}, {facts['median_words']:g} an item (median){about}"


MetadataReader = Callable[[Path, Collection[str], Collection[str] | None], dict[str, str | None]]
