"""Files of items whose form is not fixed: csv, parquet or JSON lines with a column of keys, the rest being texts."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import polars as pl

from harness.data.files import json_lines, readable
from harness.data.formats.columns import common_column
from harness.data.formats.format import head_of
from harness.data.formats.recbole import is_metadata
from harness.data.item_features import Features, recbole_features, record_features
from harness.data.text.metadata import AMAZON_FIELDS, item_text, recbole_texts
from harness.errors import DataError


def item_texts(path: Path, wanted: Collection[str], fields: Collection[str] | None) -> dict[str, str | None]:
    """Texts by key of the wanted items; `DataError` where no column has a usual name for items.

    Without `fields`: those of METHODS B.3 where they stand beside `parent_asin`, else all texts and lists, in order.
    """
    if is_metadata(head_of(path)):
        return recbole_texts(path, wanted, fields)
    texts: dict[str, str | None] = {}
    for number, record in _records(path):
        key = common_column(list(record), "item")
        if key is None or record[key] is None:
            raise DataError(
                f"{path}:{number}: an item needs a key under a usual name (item_id, asin, sku, ...), but the row has "
                f"{', '.join(list(record)[:6])}; rename the column"
            )
        if str(record[key]) in wanted:
            worded = [name for name, value in record.items() if name != key and isinstance(value, str | list)]
            default = AMAZON_FIELDS if key == "parent_asin" else worded
            texts[str(record[key])] = item_text(record, fields or default)
    return texts


def item_features(path: Path, wanted: Collection[str]) -> Features:
    """Features by key of the wanted items. `item_texts` checks the keys."""
    if is_metadata(head_of(path)):
        return recbole_features(path, wanted)
    keyed = ((common_column(list(record), "item"), record) for _, record in _records(path))
    return record_features(((str(record[key]), record) for key, record in keyed if key is not None), wanted)


def _records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each item's row number and its fields by name."""
    head = head_of(path)
    if head.magic == b"PAR1":
        yield from enumerate(pl.read_parquet(path).iter_rows(named=True), start=1)
    elif head.first.startswith("{"):
        yield from json_lines(path)
    else:
        with readable(path) as stream:
            rows = csv.DictReader(stream, delimiter=max(",\t;|", key=head.first.count), restval="")
            for row in rows:
                yield rows.line_num, {name: value for name, value in row.items() if name is not None}
