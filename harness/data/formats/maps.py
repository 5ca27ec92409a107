"""Numbered lists of items and users that lie beside a data set's files: its universe of items, and their order.

`<name>.emb_map.json` is ETEGRec's: item to number from 1, `[PAD]` being 0. `<name>.item2id` and `<name>.user2id` are
those of LC-Rec, LETTER and MiniOneRec: a line of key, tab and number, from 0.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from harness.data.files import excerpt, readable
from harness.data.formats.format import stem
from harness.errors import DataError

EMBEDDING_MAP, ITEM_MAP, USER_MAP = ".emb_map.json", ".item2id", ".user2id"
PADDING_KEY = "[PAD]"


class Maps(NamedTuple):
    """The maps of one data set, as far as they lie there."""

    items: Path | None = None
    users: Path | None = None


def maps_beside(file: Path) -> Maps:
    """The maps that bear the file's name, in its folder."""
    items, more_items, users = (
        path if (path := file.with_name(f"{stem(file)}{ending}")).is_file() else None
        for ending in (EMBEDDING_MAP, ITEM_MAP, USER_MAP)
    )
    return Maps(items or more_items, users)


def read_map(path: Path) -> tuple[str, ...]:
    """The keys in the order of their numbers, so that row i of vectors that were made by the map is key i's.

    `DataError` for another form, and for numbers that do not count on by one.
    """
    is_json = path.name.endswith(EMBEDDING_MAP)
    pairs = sorted((number, key) for key, number in (_json_pairs(path) if is_json else _lines(path)))
    if is_json and pairs and pairs[0] == (0, PADDING_KEY):
        del pairs[0]
    first = int(is_json)
    for place, (number, key) in enumerate(pairs, start=first):
        if number != place:
            raise DataError(
                f"{path}: the numbers must count from {first} to {first + len(pairs) - 1}, each once, but '{key}' has "
                f"{number} where {place} is next; number the keys anew, in the order of the vectors' rows"
            )
    return tuple(key for _, key in pairs)


def _json_pairs(path: Path) -> Iterable[tuple[str, int]]:
    try:
        with readable(path) as stream:
            return [(key, int(number)) for key, number in json.load(stream).items()]
    except (json.JSONDecodeError, AttributeError, TypeError, ValueError):
        raise DataError(f"{path}: the file must be one JSON object of item: integer") from None


def _lines(path: Path) -> Iterable[tuple[str, int]]:
    with readable(path) as stream:
        for row, line in enumerate(stream, start=1):
            key, tab, number = line.rstrip("\n").rpartition("\t")
            if not tab or not number.isdecimal():
                raise DataError(f"{path}:{row}: each line must be a key, a tab and a number, but got {excerpt(line)}")
            yield key, int(number)
