"""Numbered lists of items and users that lie beside a data set's files: its universe of items, and their order.

`<name>.emb_map.json` is ETEGRec's: item to number from 1, `[PAD]` being 0. `<name>.item2id` and `<name>.user2id` are
those of LC-Rec, LETTER and MiniOneRec: a line of key, tab and number, from 0.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import polars as pl

from harness.data.files import excerpt, readable
from harness.data.formats.format import Exported, RawInteractions, check_keys, stem
from harness.errors import DataError

EMBEDDING_MAP, ITEM_MAP, USER_MAP = ".emb_map.json", ".item2id", ".user2id"
PADDING_KEY = "[PAD]"


class Maps(NamedTuple):
    """The maps of one data set, as far as they lie there."""

    items: Path | None = None
    users: Path | None = None


def is_map(file: Path) -> bool:
    """Whether the file is named like a map."""
    return file.name.endswith((EMBEDDING_MAP, ITEM_MAP, USER_MAP))


def maps_beside(file: Path) -> Maps:
    """The maps that bear the file's name, in its folder."""
    items, more_items, users = (
        path if (path := file.with_name(f"{stem(file)}{ending}")).is_file() else None
        for ending in (EMBEDDING_MAP, ITEM_MAP, USER_MAP)
    )
    return Maps(items or more_items, users)


def write_maps(exported: Exported, folder: Path) -> None:
    """The numbers of items and users from 0, as `<name>.item2id` and `<name>.user2id`."""
    for ending, keys in ((ITEM_MAP, exported.items), (USER_MAP, exported.users)):
        check_keys(f"<name>{ending}", keys, r"[\n\r]")
        lines = (f"{key}\t{number}\n" for number, key in enumerate(keys.to_list()))
        (folder / f"{exported.name}{ending}").write_text("".join(lines), encoding="utf-8")


def with_maps(raw: RawInteractions, maps: Maps, numbered: Collection[str]) -> RawInteractions:
    """The interactions with all items of the map, by their numbers, and the users in the order of theirs.

    What is `numbered` (user, item) is told by its numbers, and gets its keys here. `DataError` for unknown ones.
    """
    if maps.items is None:
        return raw
    items, frame, texts, features = read_map(maps.items), raw.frame, raw.texts, raw.features
    if "item" in numbered:
        frame = _named(frame, "item", items, maps.items)
        texts = texts and {key: texts.get(str(number)) for number, key in enumerate(items)}
        features = features and {
            field: {key: values.get(str(number), []) for number, key in enumerate(items)}
            for field, values in features.items()
        }
    if maps.users is not None:
        users = read_map(maps.users)
        frame = _named(frame, "user", users, maps.users) if "user" in numbered else frame
        places = {user: place for place, user in enumerate(users)}
        place = pl.col("user").cast(pl.String).replace_strict(places, default=len(users))
        frame = frame.sort(place, maintain_order=True)
    return replace(raw, frame=frame, texts=texts, features=features, item_order=items)


def _named(frame: pl.DataFrame, column: str, keys: tuple[str, ...], path: Path) -> pl.DataFrame:
    """The column's numbers as keys."""
    numbers = frame[column].cast(pl.String).cast(pl.Int64, strict=False)
    unknown = numbers.is_null() | ~numbers.is_between(0, len(keys) - 1)
    if unknown.any():
        value = frame[column].filter(unknown).cast(pl.String).to_list()[0]
        raise DataError(
            f"{path}: numbers 0 to {len(keys) - 1:,}, but {column} '{value}' has interactions; mend the map"
        )
    named = pl.Series(keys, dtype=pl.String).gather(numbers.fill_null(0))
    return frame.with_columns(named.cast(pl.Categorical).alias(column))


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
