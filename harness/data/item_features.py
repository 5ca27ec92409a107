"""Item features from metadata: for each field the values of each item, such as its categories and its store.

Shape legend: N items, F values of a field.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from harness.data.files import json_lines, readable
from harness.data.text.metadata import cleaned

COLUMN = "feature:"  # begins the columns of items.parquet that hold them

Features = dict[str, dict[str, list[str]]]  # field → item key → values
FeatureReader = Callable[[Path, Collection[str]], Features]


def amazon_features(path: Path, wanted: Collection[str]) -> Features:
    """`categories` without the root, and `store`, by `parent_asin`, from an Amazon metadata file (METHODS A.2)."""
    categories, stores = {}, {}
    for _, record in json_lines(path):
        key = str(record.get("parent_asin"))
        if key in wanted:
            below_root = distinct_values(record.get("categories"))[1:]
            categories[key], stores[key] = below_root, distinct_values(record.get("store"))
    return {"categories": categories, "store": stores}


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
