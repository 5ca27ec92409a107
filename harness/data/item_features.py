"""Item features from metadata: for each field the values of each item, such as its categories and its store.

Shape legend: N items, F values of a field.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from harness.data.files import json_lines, readable
from harness.data.text.metadata import cleaned, recbole_items

FIELDS = ("categories", "store", "brand")
COLUMN = "feature:"  # begins the columns of items.parquet that hold them

Features = dict[str, dict[str, list[str]]]  # field → item key → values
FeatureReader = Callable[[Path, Collection[str]], Features]


def record_features(records: Iterable[tuple[str, Mapping[str, Any]]], wanted: Collection[str]) -> Features:
    """`categories`, `store` and `brand` of the wanted items, given each item's key and record.

    A list of categories begins with the root, which tells nothing and is left out.
    """
    found: Features = {name: {} for name in FIELDS}
    for key, record in records:
        if key in wanted:
            for name, by_item in found.items():
                value = record.get(name)
                skipped = 1 if name == "categories" and isinstance(value, list) else 0
                by_item[key] = distinct_values(value)[skipped:]
    return found


def amazon_features(path: Path, wanted: Collection[str]) -> Features:
    """The features by `parent_asin`, from an Amazon metadata file (METHODS A.2)."""
    return record_features(((str(record.get("parent_asin")), record) for _, record in json_lines(path)), wanted)


def recbole_features(path: Path, wanted: Collection[str]) -> Features:
    """The columns of a RecBole `.item` file that hold values: `token` one, `token_seq` several, with blanks between.

    Titles, names, descriptions and texts are `token_seq` in RecBole's data sets too: of them every word would be a
    value, so that they are left out.
    """
    kinds, rows = recbole_items(path)
    fields = [name for name, kind in kinds.items() if "token" in kind and name != "item_id" and not is_worded(name)]
    found: Features = {name: {} for name in fields}
    for record in rows:
        if record["item_id"] in wanted:
            for name, by_item in found.items():
                listed = record[name].split(" ") if kinds[name] == "token_seq" else record[name]
                by_item[record["item_id"]] = distinct_values(listed)
    return found


def is_worded(name: str) -> bool:
    """Whether a column of this name holds words, not values: `movie_title`, `item_name`, `description`, `text`."""
    return name.lower().endswith(("title", "name", "description", "text"))


def attribute_features(path: Path, wanted: Collection[str]) -> Features:
    """`attributes`, the numbers of S3-Rec's `item2attributes` file, by item; `attribute_texts` checks its form."""
    with readable(path) as stream:
        attributes = json.load(stream)
    return {"attributes": {item: distinct_values(numbers) for item, numbers in attributes.items() if item in wanted}}


def distinct_values(found: Any) -> list[str]:
    """The distinct values of a field, cleaned, in their order."""
    listed = found if isinstance(found, list) else [found]
    return list(dict.fromkeys(text for one in listed if one is not None and (text := cleaned(str(one)))))


def feature_columns(features: Mapping[str, Mapping[str, list[str]]] | None, keys: pl.Series) -> pl.DataFrame:
    """A column of lists for each field that any of the N items has a value of."""
    columns = {
        f"{COLUMN}{field}": [by_item.get(key, []) for key in keys.to_list()]
        for field, by_item in (features or {}).items()
    }
    kept = {name: lists for name, lists in columns.items() if any(lists)}
    return pl.DataFrame(kept, schema=dict.fromkeys(kept, pl.List(pl.String)))


def features_of(items: pl.DataFrame) -> dict[str, tuple[tuple[str, ...], ...]]:
    """Field → the values of each item, from the columns that `feature_columns` made."""
    names = [name for name in items.columns if name.startswith(COLUMN)]
    return {name.removeprefix(COLUMN): tuple(map(tuple, items[name].to_list())) for name in names}
