"""Item features as numbers, for networks that read them beside the items.

Shape legend: N items, K values of an item at most, F values of all fields.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from harness.data.dataset import Dataset
from harness.errors import DataError, nearest


class Field(NamedTuple):
    """A field of the metadata: its values, and which of them each item has."""

    name: str
    values: tuple[str, ...]  # value v + 1 of `of_items` is values[v]
    of_items: np.ndarray  # (N + 1, K) int64, row i for item i; behind an item's values, and in row 0, stand zeros


def obstacle_to_features(dataset: Dataset, wanted: Sequence[str]) -> str | None:
    """Why the data set's items do not have the wanted fields, in one line; None: they do."""
    known = dataset.catalog.features
    if not known:
        return "item features (categories, store, ...) are needed, and there are none; give them with --metadata FILE"
    unknown = [name for name in wanted if name not in known]
    return f"the items have no feature '{unknown[0]}'; {nearest(unknown[0], known)}" if unknown else None


def fields_of(dataset: Dataset, wanted: Sequence[str]) -> list[Field]:
    """The wanted fields of the data set's items, all that there are where none is named; `DataError` without any."""
    obstacle = obstacle_to_features(dataset, wanted)
    if obstacle is not None:
        raise DataError(f"data set '{dataset.name}': {obstacle}")
    return [_field(name, dataset.catalog.features[name]) for name in wanted or dataset.catalog.features]


def _field(name: str, lists: Sequence[Sequence[str]]) -> Field:
    values = sorted({value for one in lists for value in one})
    numbers = {value: number for number, value in enumerate(values, start=1)}
    of_items = np.zeros((len(lists) + 1, max(1, max(map(len, lists), default=1))), dtype=np.int64)
    for item, one in enumerate(lists, start=1):
        of_items[item, : len(one)] = [numbers[value] for value in one]
    return Field(name, tuple(values), of_items)
